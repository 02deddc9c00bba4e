"""What somebody may read of the history: his own conversations, and the rooms that he is in.

Called wherever somebody reads: in a worker's reading thread, in the operator's command. A reader
names himself by his account and the rooms by their names; who he is, and that he is in those rooms,
is for the caller to have checked. Nothing here waits for the writer. Raises sqlite3.Error.

What is newest is in the tail and is gone through (see `newest`); what is sorted is found by its
numbers (`said`), in one chunk after the other until there is enough.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from prefork_chat.history.archive import GUEST
from prefork_chat.history.newest import read_tail
from prefork_chat.history.schema import CHUNK_SHIFT, open_reader
from prefork_chat.history.sorting import note_to_self, unpack_places

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from prefork_chat.history.tail import Sender

MOST_LINES: Final = 500
"""The most that one question is answered with."""

MOST_CHUNKS: Final = 64
"""Chunks that are looked through at once: first one, then twice as many each time. Who has said
much is found in the first few, and who has said little costs 1 us a chunk."""

_NOBODY: Final = 1 << 40
"""Above all numbers of people: for keys that the history has no number for yet."""

Part: TypeAlias = tuple[int, ...]
"""What all of these numbers have to do with."""

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

    def has(self, id_: int) -> bool:
        """Say whether an id is in the range."""
        return id_ > self.after and not 0 < self.before <= id_

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

    def everything(self, user: str, rooms: Sequence[str], wanted: Range) -> Page:
        """Return the direct messages of the account `user`, and what was said in these rooms."""
        with self.snapshot() as connection:
            people = People(connection)
            return _read(people, [(people.number(key),) for key in (user, *rooms)], wanted)

    def conversation(self, user: str, peer: str, wanted: Range) -> Page:
        """Return what the accounts `user` and `peer` said to each other.

        And what a guest of that name has said to `user`.
        """
        with self.snapshot() as connection:
            people = People(connection)
            me, peers = people.number(user), [people.number(key) for key in (peer, GUEST + peer)]
            parts = [(me, number if number != me else note_to_self(me)) for number in peers]
            return _read(people, parts, wanted)

    def room(self, room: str, wanted: Range) -> Page:
        """Return what was said in a room."""
        with self.snapshot() as connection:
            people = People(connection)
            return _read(people, [(people.number(room),)], wanted)

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


class People:
    """Who has which number, and what they are called, in one state of the history.

    Who is in the tail only, and has said nothing, has no number yet: he gets one here.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection: Final = connection
        self.keys: Final[dict[int, str]] = {}
        self._names: Final[dict[int, str]] = {}
        self._numbers: Final[dict[str, int]] = {}

    def number(self, key: str) -> int:
        """Return somebody's, or a room's."""
        number = self._numbers.get(key)
        if number is None:
            found = self.connection.execute("SELECT id, name FROM people WHERE key = ?", (key,))
            number, name = found.fetchone() or (_NOBODY + len(self._numbers), key)
            self._note(number, key, name)
        return number

    def speaker(self, sender: Sender) -> int:
        """Return the number of who has said something that is in the tail."""
        if isinstance(sender, int):
            return sender
        number = self.number(sender.lower())
        self._names[number] = sender
        return number

    def name(self, number: int) -> str:
        """Return how somebody is written."""
        if number not in self._names:
            found = self.connection.execute("SELECT key, name FROM people WHERE id = ?", (number,))
            self._note(number, *found.fetchone())
        return self._names[number]

    def _note(self, number: int, key: str, name: str) -> None:
        self._numbers[key] = number
        self.keys[number] = key
        self._names[number] = name


def _read(people: People, parts: Sequence[Part], wanted: Range) -> Page:
    newest = read_tail(people, parts, wanted)
    if wanted.after:
        ids = look_through(people.connection, parts, wanted)
        rows = fetch(people.connection, ids, wanted.order)
        rows += islice(newest, wanted.limit - len(rows))
    else:
        rows = list(islice(newest, wanted.limit))
        if len(rows) < wanted.limit:
            ids = look_through(people.connection, parts, wanted)
            rows += fetch(people.connection, ids[: wanted.limit - len(rows)], wanted.order)
    return wanted.page(rows)


def look_through(
    connection: sqlite3.Connection, parts: Sequence[Part], wanted: Range, above: int = 0
) -> list[int]:
    """Return the ids of what these parts have in the tables, in the order of the range.

    `limit` at the most; ids up to `above` are left out.
    """
    oldest, newest = connection.execute(
        "SELECT (SELECT min(id) FROM messages), (SELECT max(id) FROM messages)"
    ).fetchone()
    if oldest is None:
        return []
    above = max(above, wanted.after, oldest - 1)
    below = min(newest + 1, wanted.before or newest + 1)
    chunks = range(above + 1 >> CHUNK_SHIFT, (below - 1 >> CHUNK_SHIFT) + 1)
    parts = [part for part in parts if max(part) < _NOBODY]
    listed = ", ".join(str(number) for number in {number for part in parts for number in part})
    ordered = chunks if wanted.after else chunks[::-1]
    found: list[int] = []
    position, width = 0, 1
    while position < len(ordered) and len(found) < wanted.limit:
        some = ", ".join(map(str, ordered[position : position + width]))
        said: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        for chunk, number, packed in connection.execute(
            f"SELECT chunk, number, ids FROM said WHERE chunk IN ({some}) AND number IN ({listed})"
        ):
            said[chunk][number] = said[chunk].get(number, b"") + packed
        ids = {id_ for chunk in said for id_ in _common(chunk, said[chunk], parts)}
        found += sorted((id_ for id_ in ids if above < id_ < below), reverse=not wanted.after)
        position, width = position + width, min(2 * width, MOST_CHUNKS)
    return found[: wanted.limit]


def _common(chunk: int, said: Mapping[int, bytes], parts: Sequence[Part]) -> Iterator[int]:
    """Give the ids of a chunk that all numbers of a part have to do with."""
    start = chunk << CHUNK_SHIFT
    for part in parts:
        if all(number in said for number in part):
            first, *others = (unpack_places(said[number]) for number in part)
            places = set(first).intersection(*others)
            yield from (start + place for place in places)


def fetch(connection: sqlite3.Connection, ids: Sequence[int], order: str) -> list[Row]:
    """Return what is stored under these ids."""
    listed = ", ".join(map(str, ids))
    return connection.execute(
        "SELECT m.id, m.time, s.name, s.key, r.name, m.text FROM messages m "
        "JOIN people s ON s.id = m.sender JOIN people r ON r.id = m.recipient "
        f"WHERE m.id IN ({listed}) ORDER BY m.id {order}"
    ).fetchall()
