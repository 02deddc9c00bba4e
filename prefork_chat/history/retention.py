"""What is forgotten: messages that are too old, and the oldest when there are too many bytes.

The historian takes one step when it has nothing else to do (`Retention.advance`): a few rows, a
transaction of their own, so that nobody waits long. The file does not shrink with every step, for
what is free in it is used again; it is cut when a lot is. Time is passed in. Raises sqlite3.Error.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, Final

from prefork_chat.history.schema import CHUNK_SHIFT
from prefork_chat.history.search import merge, reach

if TYPE_CHECKING:
    from prefork_chat.history.archive import Archive

STEP_ROWS: Final = 250
DAY_MS: Final = 24 * 3600 * 1000
FREE_SHARE: Final = 0.25
"""The file is cut when more than this share of it is free; less is soon used again."""
_CUT_PAGES: Final = 256


class Retention:
    """Removes the oldest messages. Owner: the historian's only thread.

    `days` and `most_bytes` are the bounds, 0: none. Messages that wait for somebody go, too.
    """

    def __init__(self, archive: Archive, days: float, most_bytes: int) -> None:
        self._archive: Final = archive
        self._connection: Final = archive.connection
        self._days: Final = days
        self._most_bytes: Final = most_bytes

    def advance(self, now_ms: int) -> bool:
        """Forget a few messages, or cut the file a bit; False: nothing needs to go now."""
        before_ms = now_ms - int(self._days * DAY_MS) if self._days else 0
        is_full = bool(self._most_bytes) and self._used_bytes() > self._most_bytes
        rows = self._connection.execute(
            "SELECT id, time, talk, sender, recipient, text FROM messages ORDER BY id LIMIT ?",
            (STEP_ROWS,),
        ).fetchall()
        old = list(takewhile(lambda row: is_full or row[1] < before_ms, rows))
        if old:
            self._forget(old)
            return True
        return self._cut()

    def _forget(self, rows: list[tuple[int, int, int, int, int, str]]) -> None:
        last = rows[-1][0]
        with self._archive.transaction():
            indexed = self._connection.execute(
                "SELECT value FROM facts WHERE name = 'indexed'"
            ).fetchone()[0]
            # What was never indexed must not be taken out of the index.
            self._connection.executemany(
                "INSERT INTO words (words, rowid, text, reach) VALUES ('delete', ?, ?, ?)",
                (
                    (id_, text, reach(talk, sender, recipient))
                    for id_, _, talk, sender, recipient, text in rows
                    if id_ <= indexed
                ),
            )
            merge(self._connection)
            self._connection.execute("DELETE FROM undelivered WHERE id <= ?", (last,))
            self._connection.execute("DELETE FROM messages WHERE id <= ?", (last,))
            # In a chunk of which something stays, readers leave out what has gone.
            self._connection.execute("DELETE FROM said WHERE chunk < ?", (last + 1 >> CHUNK_SHIFT,))

    def _cut(self) -> bool:
        pages, free = self._pragma("page_count"), self._pragma("freelist_count")
        if free <= max(_CUT_PAGES, pages * FREE_SHARE):
            return False
        self._connection.execute(f"PRAGMA incremental_vacuum({_CUT_PAGES})").fetchall()
        return True

    def _used_bytes(self) -> int:
        used = self._pragma("page_count") - self._pragma("freelist_count")
        return used * self._pragma("page_size")

    def _pragma(self, name: str) -> int:
        value: int = self._connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value
