"""Finding messages by their words: an index that comes after the writer, and a look behind it.

Indexing a message costs more than storing it, and from time to time (merges) much more. So the
historian stores first and indexes when it has nothing to store; `Indexer.advance` takes one step.
Whoever looks for words asks the index, and goes through those of his own messages that it does not
have yet. `find` runs wherever somebody reads; the indexer in the historian alone.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Final

from prefork_chat.history.newest import read_tail
from prefork_chat.history.reading import Page, People, Range, fetch, look_through
from prefork_chat.history.schema import FIRST_DIALOGUE

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from prefork_chat.history.archive import Archive
    from prefork_chat.history.reading import Reader, Row

STEP_ROWS: Final = 250
"""Rows indexed in one transaction: about 5 ms, so long does a message wait that comes meanwhile."""

MERGE_PAGES: Final = 20
"""Of the index, merged with each step: about as much work as the step itself, and it leaves a dozen
pieces to search for a million messages. Merged by SQLite, when it sees fit, now and then a step
takes 80 ms, and all of them together twice as long. (Measured November 2026.)"""

MOST_BEHIND: Final = 1000
"""So many of a reader's own newest messages are gone through that the index does not have yet: 5
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


def merge_in_steps(connection: sqlite3.Connection) -> None:
    """Have the index merged by `merge` alone; that is noted in the file."""
    found = connection.execute("SELECT v FROM words_config WHERE k = 'automerge'").fetchone()
    if found != (0,):
        connection.execute(
            "INSERT INTO words (words, rank) VALUES ('automerge', 0), ('crisismerge', 64)"
        )


def merge(connection: sqlite3.Connection) -> None:
    """Merge a bit of the index; to be called once for each transaction that changes it."""
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (MERGE_PAGES,))


class Indexer:
    """Brings the index up to the messages. Owner: the historian's only thread."""

    def __init__(self, archive: Archive) -> None:
        self._archive: Final = archive
        self._connection: Final = archive.connection
        found = self._connection.execute("SELECT value FROM facts WHERE name = 'indexed'")
        self._indexed: int = found.fetchone()[0]
        merge_in_steps(self._connection)

    @property
    def behind(self) -> int:
        """How many messages are to be indexed."""
        return self._archive.sorted_id - self._indexed

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
            merge(self._connection)
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
    behind = _rows_behind(people, mine, words, wanted)
    found = (row for row in islice(behind, MOST_BEHIND) if _has_all(row[-1], words))
    return list(islice(found, wanted.limit))


def _rows_behind(
    people: People, mine: Sequence[int], words: Sequence[str], wanted: Range
) -> Iterator[Row]:
    """Give what may have these words, of all that is not indexed."""
    connection = people.connection
    parts = [(number,) for number in mine]
    behind = Range(MOST_BEHIND, before=wanted.before)
    yield from read_tail(people, parts, behind, words)
    (indexed,) = connection.execute("SELECT value FROM facts WHERE name = 'indexed'").fetchone()
    ids = look_through(connection, parts, behind, indexed)
    for start in range(0, len(ids), STEP_ROWS):
        yield from fetch(connection, ids[start : start + STEP_ROWS], behind.order)


def _has_all(text: str, words: Sequence[str]) -> bool:
    """Say whether a text has all of these words."""
    if text.isascii():  # most have not, and that is found out in a tenth of the time
        lowered = text.lower()
        if not all(word in lowered for word in words):
            return False
    present = set(tokens(text))
    return all(word in present for word in words)
