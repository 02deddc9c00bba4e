"""How messages come into the history: one transaction for all that one batch of them changes.

The database is its writer's journal, too. A transaction holds the new rows, the numbers of the
datagrams that they came in (`taken`) and the datagrams that they cause (`outgoing`): after a kill
the next writer sends those once more, with the numbers that they had, and drops what it has taken.
Both are about one run of the daemon, for in the next one every loop counts anew.

Owner: the historian's only thread. Raises sqlite3.Error when the file cannot be written; then
nothing has changed, in the file or in memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prefork_chat.history.schema import dialogue, open_writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

GUEST: Final = "~"
"""Before the key of somebody who has no account."""


class Pending(NamedTuple):
    """A message that waits for its recipient to come; `sender` as it is to be shown."""

    id: int
    sender: str
    text: str


class Archive:
    """The history, open for its writer.

    `taken` has the number of the last datagram of each loop, by index. All that changes something
    is to be called inside `transaction`.
    """

    def __init__(self, path: Path, run: bytes) -> None:
        """Open the file; `run` tells one run of the daemon from others. Raises sqlite3.Error."""
        self.connection: Final = open_writer(path)
        self._path: Final = path
        self._people: dict[str, int] = {}
        self._newcomers: list[str] = []
        self._names: dict[int, str] = {}
        self._rows: list[tuple[int, int, int, int, int, str]] = []
        try:
            found = os.stat(path)
            self._file: Final = (found.st_dev, found.st_ino)
            self._begin_run(run)
            self._last_id: int = self._fact("last")
            highest = self.connection.execute("SELECT max(id) FROM people").fetchone()[0]
            self._last_person: int = highest or 0
            self.taken: Final[dict[int, int]] = dict(
                self.connection.execute("SELECT loop, number FROM taken")
            )
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

    def outgoing(self) -> list[tuple[int, int, bytes]]:
        """Return (number, p_id, datagram) that a predecessor may have sent or not, in order."""
        return self.connection.execute(
            "SELECT number, p_id, datagram FROM outgoing ORDER BY number"
        ).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that the block does, or nothing: then sqlite3.Error, or what the block raised.

        A database that others read does not make it wait.
        """
        last_id, last_person = self._last_id, self._last_person
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.flush()
            if self._last_id != last_id:
                self._set_fact("last", self._last_id)
            self.connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # there may be none any more
                self.connection.execute("ROLLBACK")
            self._last_id, self._last_person = last_id, last_person
            for key in self._newcomers:
                self._names.pop(self._people.pop(key), None)
            self._rows.clear()
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

    def add(self, time_ms: int, sender: int, recipient: int, text: str) -> int:
        """Store a message of one person to another; return its id."""
        self._last_id += 1
        talk = dialogue(sender, recipient)
        self._rows.append((self._last_id, time_ms, talk, sender, recipient, text))
        return self._last_id

    def add_to_room(self, time_ms: int, sender: int, room: int, text: str) -> int:
        """Store a message of somebody to a room; return its id."""
        self._last_id += 1
        self._rows.append((self._last_id, time_ms, room, sender, room, text))
        return self._last_id

    def flush(self) -> None:
        """Have what was added be in the tables, for whoever looks before the commit."""
        if self._rows:
            self.connection.executemany(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", self._rows
            )
            self._rows.clear()

    # Messages for those who are away

    def await_arrival(self, recipient: int, ids: Iterable[int]) -> None:
        """Note that these messages have yet to reach him."""
        self.connection.executemany(
            "INSERT INTO undelivered VALUES (?, ?, 0)", ((recipient, each) for each in ids)
        )

    def pending(self, recipient: int, most: int) -> list[Pending]:
        """Return what waits for him and is not under way, oldest first."""
        self.flush()
        rows = self.connection.execute(
            "SELECT m.id, p.name, m.text FROM undelivered u JOIN messages m ON m.id = u.id "
            "JOIN people p ON p.id = m.sender "
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

    def note_taken(self, taken: Iterable[tuple[int, int]]) -> None:
        """Note the numbers of the last datagrams that some loops have sent."""
        self.connection.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?)", taken)

    def replace_outgoing(self, datagrams: Iterable[tuple[int, int, bytes]]) -> None:
        """Note what is to be sent, (number, p_id, datagram): all that has not been sent before."""
        self.connection.execute("DELETE FROM outgoing")
        self.connection.executemany("INSERT INTO outgoing VALUES (?, ?, ?)", datagrams)

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
        self.connection.execute("DELETE FROM taken")
        self.connection.execute("DELETE FROM outgoing")
        self.connection.execute("UPDATE undelivered SET is_sent = 0 WHERE is_sent")
        self._set_fact("run", run)
        self.connection.execute("COMMIT")

    def _fact(self, name: str) -> Any:
        row = self.connection.execute("SELECT value FROM facts WHERE name = ?", (name,))
        return row.fetchone()[0]

    def _set_fact(self, name: str, value: object) -> None:
        self.connection.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))
