"""What somebody may read of the history: his own conversations, and the rooms that he is in.

Called wherever somebody reads: in a worker's reading thread, in the operator's command. A reader
names himself by his account and the rooms by their names; who he is, and that he is in those rooms,
is for the caller to have checked. Nothing here waits for the writer. Raises sqlite3.Error.

Every query is a union of parts of indexes, each limited, in one chunk after the other until there
is enough: 0.3 ms for the last 50 of a user among a million (one condition with OR took 5.9).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from prefork_chat.history.archive import GUEST
from prefork_chat.history.schema import CHUNK_SHIFT, FIRST_DIALOGUE, dialogue, open_reader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MOST_LINES: Final = 500
"""The most that one question is answered with."""

MOST_CHUNKS: Final = 64
"""Chunks that are looked through at once: first one, then twice as many each time. Who has said
much is found in the first few, and who has said little costs 1 us a chunk."""

Part: TypeAlias = tuple[str, str]
"""An index and a condition of its messages; made of numbers only, so it may be part of a query."""

Row: TypeAlias = tuple[int, int, str, str, str, str]
"""id, time, name and key of the sender, name of the recipient, text."""


class Entry(NamedTuple):
    """One message of the history. A sender who was a guest has a `~` before the name."""

    id: int
    time_ms: int
    sender: str
    recipient: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order of their ids; `has_more`: there are others beyond them."""

    entries: Sequence[Entry]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Range:
    """Which entries are meant: the last `count` with ids below `before`.

    Or, if `after` is not 0, the first `count` above that.
    """

    count: int = 20
    before: int = 0
    after: int = 0

    @property
    def limit(self) -> int:
        """How many rows to ask for: one more tells whether there is more."""
        return self.count + 1

    @property
    def order(self) -> str:
        """In which order to look."""
        return "ASC" if self.after else "DESC"

    def bounds(self, column: str) -> str:
        """Return the condition on a column of ids; numbers only, so it may be part of a query."""
        conditions = [f"{column} > {self.after:d}"]
        if self.before:
            conditions.append(f"{column} < {self.before:d}")
        return " AND ".join(conditions)

    def page(self, rows: Sequence[Row]) -> Page:
        """Make a page of rows that were asked for in `order`."""
        wanted = rows[: self.limit - 1]
        entries = [
            Entry(id_, time, f"{GUEST}{name}" if key.startswith(GUEST) else name, recipient, text)
            for id_, time, name, key, recipient, text in wanted
        ]
        if not self.after:
            entries.reverse()
        return Page(entries, len(rows) > len(wanted))


class Reader:
    """A connection for reading; opened at the first question, and anew when the file is another.

    Owner: one thread.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)

    def person(self, key: str) -> int:
        """Return the number of who has this key, 0 if the history knows nobody of it."""
        found = self.connection().execute("SELECT id FROM people WHERE key = ?", (key,)).fetchone()
        return found[0] if found else 0

    def everything(self, user: str, rooms: Sequence[str], wanted: Range) -> Page:
        """Return the direct messages of the account `user`, and what was said in these rooms."""
        me = self.person(user)
        return self._read((direct(me) if me else []) + self._talks(rooms), wanted)

    def conversation(self, user: str, peer: str, wanted: Range) -> Page:
        """Return what the accounts `user` and `peer` said to each other.

        And what a guest of that name has said to `user`.
        """
        me = self.person(user)
        peers = [self.person(peer), self.person(GUEST + peer)] if me else []
        return self._read([talk(dialogue(me, peer)) for peer in peers if peer], wanted)

    def room(self, room: str, wanted: Range) -> Page:
        """Return what was said in a room."""
        return self._read(self._talks([room]), wanted)

    def connection(self) -> sqlite3.Connection:
        """Return the connection to the file that is there now."""
        found = os.stat(self._path) if self._path.exists() else None
        file = (found.st_dev, found.st_ino) if found else (0, 0)
        if self._connection is None or file != self._file:
            self.close()
            self._connection = open_reader(self._path)
            self._file = file
        return self._connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one state of the history for as long as the block runs."""
        connection = self.connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _talks(self, rooms: Sequence[str]) -> list[Part]:
        numbers = [self.person(room) for room in rooms]
        return [talk(number) for number in numbers if number]

    def _read(self, parts: Sequence[Part], wanted: Range) -> Page:
        with self.snapshot() as connection:
            ids = look_through(connection, parts, wanted)
            return wanted.page(fetch(connection, ids, wanted.order))


def direct(person: int) -> list[Part]:
    """Return the parts of the indexes that have a person's direct messages."""
    return [
        ("sent", f"talk >= {FIRST_DIALOGUE} AND sender = {person:d}"),
        ("received", f"talk >= {FIRST_DIALOGUE} AND recipient = {person:d}"),
    ]


def talk(number: int) -> Part:
    """Return the part of the index that has a conversation."""
    return ("talked", f"talk = {number:d}")


def look_through(
    connection: sqlite3.Connection, parts: Sequence[Part], wanted: Range, above: int = 0
) -> list[int]:
    """Return the ids of what these parts have in the range, in its order: `limit` at the most.

    Ids up to `above` are left out.
    """
    oldest, newest = connection.execute(
        "SELECT (SELECT min(id) FROM messages), (SELECT max(id) FROM messages)"
    ).fetchone()
    if not parts or oldest is None:
        return []
    above = max(above, wanted.after)
    first = max(oldest, above + 1) >> CHUNK_SHIFT
    last = min(newest, wanted.before - 1 if wanted.before else newest) >> CHUNK_SHIFT
    chunks = range(first, last + 1)
    end = f"ORDER BY id {wanted.order} LIMIT {wanted.limit}"
    bounds = f"id > {above:d} AND {wanted.bounds('id')}"
    # UNION, not UNION ALL: what somebody said to himself is in two of them.
    query = " UNION ".join(
        f"SELECT * FROM (SELECT id FROM messages INDEXED BY {index} "
        f"WHERE id >> {CHUNK_SHIFT} IN (%(chunks)s) AND {condition} AND {bounds} {end})"
        for index, condition in parts
    )
    ordered = chunks if wanted.after else chunks[::-1]
    found: list[int] = []
    position, width = 0, 1
    while position < len(ordered) and len(found) < wanted.limit:
        some = ", ".join(map(str, ordered[position : position + width]))
        rows = connection.execute(f"{query % {'chunks': some}} {end}")
        found += [id_ for (id_,) in rows]
        position, width = position + width, min(2 * width, MOST_CHUNKS)
    return found[: wanted.limit]


def fetch(connection: sqlite3.Connection, ids: Sequence[int], order: str) -> list[Row]:
    """Return what is stored under these ids."""
    listed = ", ".join(map(str, ids))
    return connection.execute(
        "SELECT m.id, m.time, s.name, s.key, r.name, m.text FROM messages m "
        "JOIN people s ON s.id = m.sender JOIN people r ON r.id = m.recipient "
        f"WHERE m.id IN ({listed}) ORDER BY m.id {order}"
    ).fetchall()
