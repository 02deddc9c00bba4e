"""How messages come into the history: one transaction for all that one batch of them changes.

The database is its writer's journal, too. A transaction holds the new messages, as one row of the
tail (see `tail`; `sorting` makes rows of them later), the numbers of the datagrams that they came
in (`taken`) and the datagrams that they cause (`outgoing`): after a kill the next writer sends
those once more, with the numbers that they had, and drops what it has taken. Both are about one run
of the daemon, for in the next one every loop counts anew.

Owner: the historian's only thread. Raises sqlite3.Error when the file cannot be written; then
nothing has changed, in the file or in memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from prefork_chat.history import tail
from prefork_chat.history.opening import open_writer
from prefork_chat.history.sorting import said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

GUEST: Final = "~"
"""Before the key of somebody who has no account."""

Message: TypeAlias = tuple[int, int, int, int, int, str]
"""A row of `messages`: id, time, talk, sender, recipient, text."""

Outgoing: TypeAlias = tuple[int, bytes]
"""p_id and datagram."""

_encode = msgspec.msgpack.Encoder().encode
_decode_taken = msgspec.msgpack.Decoder(dict[int, int]).decode
_decode_outgoing = msgspec.msgpack.Decoder(list[Outgoing]).decode


class Pending(NamedTuple):
    """A message that waits for its recipient to come; `sender` as it is to be shown."""

    id: int
    sender: str
    text: str


class Archive:
    """The history, open for its writer.

    `taken` has the number of the last datagram of each loop, by index, as a predecessor left it.
    All that changes something is to be called inside `transaction`.
    """

    def __init__(self, path: Path, run: bytes, beat: Callable[[], None] = lambda: None) -> None:
        """Open the file; `run` tells one run of the daemon from others. Raises sqlite3.Error.

        What takes long calls `beat` now and then.
        """
        self.connection: Final = open_writer(path, beat)
        self._path: Final = path
        self._people: dict[str, int] = {}
        self._newcomers: list[str] = []
        self._names: dict[int, str] = {}
        self._sections: list[bytes] = []
        try:
            found = os.stat(path)
            self._file: Final = (found.st_dev, found.st_ino)
            self._begin_run(run)
            self._sorted_id: int = self._fact("last")
            last, size = self.connection.execute(
                "SELECT max(first + count - 1), sum(length(body)) FROM tail"
            ).fetchone()
            self._last_id: int = last or self._sorted_id
            self._tail_bytes: int = size or 0
            highest = self.connection.execute("SELECT max(id) FROM people").fetchone()[0]
            self._last_person: int = highest or 0
            (taken,) = self.connection.execute("SELECT taken FROM turn").fetchone()
            self.taken: Final = _decode_taken(taken)
        except BaseException:
            self.connection.close()
            raise

    def check(self) -> None:
        """See whether the file is still at its path; raises OSError if not."""
        found = os.stat(self._path)
        if (found.st_dev, found.st_ino) != self._file:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    @property
    def last_id(self) -> int:
        """The id of the newest message."""
        return self._last_id

    @property
    def sorted_id(self) -> int:
        """The id of the newest message that is in the tables."""
        return self._sorted_id

    @property
    def tail_bytes(self) -> int:
        """How much there is to be sorted."""
        return self._tail_bytes

    def outgoing(self) -> list[Outgoing]:
        """Return (p_id, datagram) that a predecessor may have sent or not, in order."""
        (outgoing,) = self.connection.execute("SELECT outgoing FROM turn").fetchone()
        return _decode_outgoing(outgoing)

    @contextlib.contextmanager
    def transaction(self, time_ms: int = 0) -> Iterator[None]:
        """Commit all that the block does, or nothing: then sqlite3.Error, or what the block raised.

        What it adds was said at `time_ms`. A database that others read does not make it wait.
        """
        before = self._last_id, self._sorted_id, self._tail_bytes, self._last_person
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self._sections:
                self._append(before[0] + 1, time_ms)
            self.connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # there may be none any more
                self.connection.execute("ROLLBACK")
            self._last_id, self._sorted_id, self._tail_bytes, self._last_person = before
            for key in self._newcomers:
                self._names.pop(self._people.pop(key), None)
            self._sections.clear()
            self._newcomers.clear()
            raise
        self._newcomers.clear()

    # Rows

    def person(self, key: str, name: str = "") -> int:
        """Return the number of who has this key; `name`: as it is written from now on.

        Without one, whoever is new is written like his key.
        """
        found = self._people.get(key)
        if found is None:
            found = self._find_person(key, name)
        if name and self._names[found] != name:
            self._names[found] = name
            self.connection.execute("UPDATE people SET name = ? WHERE id = ?", (name, found))
        return found

    def add(self, sender: int, lines: bytes, room: int = 0) -> int:
        """Store somebody's lines, as `tail` has them; return the id of the first."""
        first = self._last_id + 1
        self._last_id += tail.count(lines)
        self._sections.append(tail.section(sender, lines, room))
        return first

    def add_filed(self, sections: bytes) -> None:
        """Store what accounts have said to each other, as `tail` has it but for the first RS."""
        self._last_id += tail.count_all(sections)
        self._sections.append(tail.SEPARATOR + sections)

    def sort(self, messages: Sequence[Message], upto: int) -> None:
        """Have these messages, the tail's oldest up to that id, in the tables."""
        self.connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", messages)
        self.connection.executemany("INSERT INTO said VALUES (?, ?, ?, ?)", said(messages))
        (size,) = self.connection.execute(
            "SELECT sum(length(body)) FROM tail WHERE first <= ?", (upto,)
        ).fetchone()
        self.connection.execute("DELETE FROM tail WHERE first <= ?", (upto,))
        self._set_fact("last", upto)
        self._sorted_id = upto
        self._tail_bytes -= size

    def drop_oldest(self) -> bytes:
        """Take the oldest body out of the tail, in a transaction of its own, and return it."""
        with self.transaction():
            first, count, body = self.connection.execute(
                "SELECT first, count, body FROM tail ORDER BY first LIMIT 1"
            ).fetchone()
            self.sort((), first + count - 1)
        return bytes(body)

    def _append(self, first: int, time_ms: int) -> None:
        """Put what was added into the tail."""
        body = b"".join(self._sections)
        self._sections.clear()
        for part in tail.cut(body):
            number = tail.count_all(part)
            self.connection.execute(
                "INSERT INTO tail VALUES (?, ?, ?, ?)", (first, number, time_ms, part)
            )
            first += number
        self._tail_bytes += len(body)

    # Messages for those who are away

    def await_arrival(
        self, recipient: int, sender: int, messages: Iterable[tuple[int, str]]
    ) -> None:
        """Note that these messages (id, text) have yet to reach him."""
        self.connection.executemany(
            "INSERT INTO undelivered VALUES (?, ?, 0, ?, ?)",
            ((recipient, id_, sender, text) for id_, text in messages),
        )

    def pending(self, recipient: int, most: int) -> list[Pending]:
        """Return what waits for him and is not under way, oldest first."""
        rows = self.connection.execute(
            "SELECT u.id, p.name, u.text FROM undelivered u JOIN people p ON p.id = u.sender "
            "WHERE u.recipient = ? AND NOT u.is_sent ORDER BY u.id LIMIT ?",
            (recipient, most),
        )
        return [Pending(*row) for row in rows]

    def is_under_way(self, recipient: int) -> bool:
        """Say whether something has been sent to him of which nobody knows whether it arrived."""
        found = self.connection.execute(
            "SELECT 1 FROM undelivered WHERE recipient = ? AND is_sent LIMIT 1", (recipient,)
        )
        return found.fetchone() is not None

    def note_sent(self, recipient: int, ids: Iterable[int]) -> None:
        """Note that these messages are under way to him."""
        self._mark(recipient, ids, 1)

    def note_returned(self, recipient: int, ids: Iterable[int]) -> None:
        """Note that these messages have not reached him: they wait again."""
        self._mark(recipient, ids, 0)

    def note_arrived(self, recipient: int, ids: Iterable[int]) -> None:
        """Note that these messages have reached him."""
        self.connection.executemany(
            "DELETE FROM undelivered WHERE recipient = ? AND id = ?",
            ((recipient, each) for each in ids),
        )

    def recipients(self) -> list[str]:
        """Return the keys of all for whom something waits that is not under way."""
        rows = self.connection.execute(
            "SELECT key FROM people WHERE id IN "
            "(SELECT DISTINCT recipient FROM undelivered WHERE NOT is_sent)"
        )
        return [key for (key,) in rows]

    # The writer's journal

    def note_turn(self, taken: Mapping[int, int], outgoing: Sequence[Outgoing]) -> None:
        """Note the numbers of the last datagrams of all loops, and all that has not been sent."""
        self.connection.execute(
            "UPDATE turn SET taken = ?, outgoing = ?", (_encode(taken), _encode(outgoing))
        )

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def _find_person(self, key: str, name: str) -> int:
        found = self.connection.execute("SELECT id, name FROM people WHERE key = ?", (key,))
        row: tuple[int, str] | None = found.fetchone()
        if row is None:
            self._last_person += 1
            row = (self._last_person, name or key)
            self.connection.execute("INSERT INTO people VALUES (?, ?, ?)", (row[0], key, row[1]))
        self._newcomers.append(key)
        self._people[key], self._names[row[0]] = row
        return row[0]

    def _mark(self, recipient: int, ids: Iterable[int], is_sent: int) -> None:
        self.connection.executemany(
            "UPDATE undelivered SET is_sent = ? WHERE recipient = ? AND id = ?",
            ((is_sent, recipient, each) for each in ids),
        )

    def _begin_run(self, run: bytes) -> None:
        """Forget what was under way in another run: nobody is left who would know of it."""
        if self._fact("run") == run:
            return
        self.connection.execute("BEGIN IMMEDIATE")
        self.note_turn({}, [])
        self.connection.execute("UPDATE undelivered SET is_sent = 0 WHERE is_sent")
        self._set_fact("run", run)
        self.connection.execute("COMMIT")

    def _fact(self, name: str) -> Any:
        row = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,))
        return row.fetchone()[0]

    def _set_fact(self, name: str, value: object) -> None:
        self.connection.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))
