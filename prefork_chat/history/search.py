"""Finding messages by their words: an index that comes after the writer, and a look behind it.

Indexing a message costs more than storing it, and from time to time (merges) much more. So the
historian stores first and indexes when it has nothing to store; `Indexer.advance` takes one step.
Whoever looks for words asks the index, and goes through those of his own messages that it does not
have yet. `find` runs wherever somebody reads; the indexer in the historian alone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from prefork_chat.history.reading import Page, People, Range, fetch, look_through, read_tail
from prefork_chat.history.schema import FIRST_DIALOGUE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from prefork_chat.history.archive import Archive
    from prefork_chat.history.reading import Reader, Row

STEP_ROWS: Final = 250
"""Rows indexed in one transaction: about 5 ms, so long does a message wait that comes meanwhile."""

MOST_BEHIND: Final = 2000
"""So many of a reader's own newest messages are gone through that the index does not have yet: 10
ms. In a flood, what he said before them is found once it has been indexed."""

_TOKEN: Final = re.compile(r"[^\W_]+")


def reach(talk: int, sender: int, recipient: int) -> str:
    """Return who may read a message, in words for the index."""
    return f"p{sender} p{recipient}" if talk >= FIRST_DIALOGUE else f"p{recipient}"


def tokens(text: str) -> list[str]:
    """Return the words of a text, as the index sees them: without case and accents."""
    if text.isascii():
        return _TOKEN.findall(text.lower())
    plain = unicodedata.normalize("NFKD", text.casefold())
    return _TOKEN.findall("".join(c for c in plain if not unicodedata.combining(c)))


class Indexer:
    """Brings the index up to the messages. Owner: the historian's only thread."""

    def __init__(self, archive: Archive) -> None:
        self._archive: Final = archive
        self._connection: Final = archive.connection
        found = self._connection.execute("SELECT value FROM facts WHERE name = 'indexed'")
        self._indexed: int = found.fetchone()[0]

    @property
    def is_behind(self) -> bool:
        """True when there is something to index."""
        return self._indexed < self._archive.sorted_id

    def advance(self) -> None:
        """Index a few messages more, in a transaction of its own; raises sqlite3.Error."""
        rows = self._connection.execute(
            "SELECT id, text, talk, sender, recipient FROM messages WHERE id > ? "
            "ORDER BY id LIMIT ?",
            (self._indexed, STEP_ROWS),
        ).fetchall()
        # Ids without a row, at the end, are of messages that retention has removed.
        indexed = rows[-1][0] if len(rows) == STEP_ROWS else self._archive.sorted_id
        with self._archive.transaction():
            self._connection.executemany(
                "INSERT INTO words (rowid, text, reach) VALUES (?, ?, ?)",
                ((id_, text, reach(*who)) for id_, text, *who in rows),
            )
            self._connection.execute(
                "UPDATE facts SET value = ? WHERE name = 'indexed'", (indexed,)
            )
        self._indexed = indexed


def find(reader: Reader, user: str, rooms: Sequence[str], sought: str, wanted: Range) -> Page:
    """Return messages that `user` may read and that have all words of `sought`, the newest ones.

    He may read his direct messages, and these rooms. Raises sqlite3.Error.
    """
    words = tokens(sought)
    if not words:
        return Page((), False)
    with reader.snapshot() as connection:  # lest things be sorted or indexed between two looks
        people = People(connection)
        mine = [people.number(key) for key in (user, *rooms)]
        found = _find_behind(people, mine, words, wanted)
        if len(found) < wanted.limit:
            ids = _find_indexed(connection, mine, words, wanted)
            found += fetch(connection, ids[: wanted.limit - len(found)], wanted.order)
        return wanted.page(found)


def _find_indexed(
    connection: sqlite3.Connection, mine: Sequence[int], words: Sequence[str], wanted: Range
) -> list[int]:
    sought = " AND ".join(f'"{word}"' for word in words)
    readers = " OR ".join(f"p{number}" for number in mine)
    rows = connection.execute(
        f"SELECT rowid FROM words WHERE words MATCH ? AND {wanted.bounds('rowid')} "
        f"ORDER BY rowid DESC LIMIT {wanted.limit}",
        (f"text : ({sought}) AND reach : ({readers})",),
    )
    return [id_ for (id_,) in rows]


def _find_behind(
    people: People, mine: Sequence[int], words: Sequence[str], wanted: Range
) -> list[Row]:
    """Go through what the index does not have yet, the newest first."""
    connection = people.connection
    (indexed,) = connection.execute("SELECT value FROM facts WHERE name = 'indexed'").fetchone()
    parts = [(number,) for number in mine]
    behind = Range(MOST_BEHIND, before=wanted.before)
    rows = read_tail(people, parts, behind)
    ids = look_through(connection, parts, behind, indexed)
    rows += fetch(connection, ids[: behind.limit - len(rows)], "DESC")
    found: list[Row] = []
    for row in rows:
        present = set(tokens(row[-1]))
        if all(word in present for word in words):
            found.append(row)
            if len(found) == wanted.limit:
                break
    return found
