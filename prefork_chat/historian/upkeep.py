"""What the historian does with what it has stored, in its spare time: sort, index, forget.

A step at a time, so that what comes meanwhile does not wait long. Nothing of it is needed for an
answer: readers go through what is not sorted, and through what is not indexed. Only when too much
is unsorted does storing wait for it (`keep_tail_short`). Raises sqlite3.Error or OSError. Owner:
the historian's only thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from prefork_chat.history.retention import Retention
from prefork_chat.history.search import Indexer
from prefork_chat.history.sorting import Sorter

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.config import HistoryConfig
    from prefork_chat.history.archive import Archive

MOST_TAIL_BYTES: Final = 32 * 1024 * 1024
"""Of messages that are not sorted; above it they are, whoever waits. A reader goes through 32 MB in
50 ms."""

SORT_SECONDS: Final = 0.25
"""Until what has come is sorted, if there is time: many at once cost less."""

SORT_REST: Final = 9.0
"""Times as long as it has sorted it rests: with MOST_TAIL_BYTES or less a tenth of a CPU is enough,
and in a flood the rest is for who waits."""

INDEX_REST: Final = 3.0
"""Times as long as it has indexed it rests: at most a quarter of a CPU goes into the index."""

RETENTION_SECONDS: Final = 60.0
"""How often to look whether there is something to forget."""


class Upkeep:
    """The work that waits, and when each kind may go on."""

    def __init__(
        self, archive: Archive, config: HistoryConfig, set_aside: Callable[[bytes, str], None]
    ) -> None:
        """`set_aside` is given what cannot be sorted, and why."""
        self._archive: Final = archive
        self._sorter: Final = Sorter(archive)
        self._indexer: Final = Indexer(archive)
        self._retention: Final = Retention(archive, config.retention_days, config.max_bytes)
        self._set_aside: Final = set_aside
        self._sort_at = 0.0
        self._index_at = 0.0
        self._look_at = 0.0

    def wake_at(self) -> float:
        """Return when there is something to do, in monotonic seconds."""
        if self._sorter.is_behind:
            return self._sort_at
        return self._index_at if self._indexer.is_behind else float("inf")

    def expect(self) -> None:
        """Take note that something is about to be stored."""
        if not self._sorter.is_behind:
            self._sort_at = max(self._sort_at, time.monotonic() + SORT_SECONDS)

    def keep_tail_short(self) -> None:
        """Sort, although there is no time for it, if too much of the history is unsorted."""
        if self._archive.tail_bytes > MOST_TAIL_BYTES:
            self._sort()

    def advance(self, now_ms: int) -> None:
        """Take one step, if one is due; `now_ms` is in milliseconds since 1970."""
        now = time.monotonic()
        if self._sorter.is_behind:
            if now >= self._sort_at:
                self._sort()
        elif self._indexer.is_behind and now >= self._index_at:
            self._indexer.advance()
            done = time.monotonic()
            self._index_at = done + INDEX_REST * (done - now)
        elif now >= self._look_at and not self._retention.advance(now_ms):
            self._look_at = now + RETENTION_SECONDS

    def _sort(self) -> None:
        started = time.monotonic()
        try:
            self._sorter.advance()
        except (ValueError, LookupError):  # a bug, for some batch: the others must not wait for it
            self._sort_one()
        done = time.monotonic()
        self._sort_at = done + SORT_REST * (done - started)

    def _sort_one(self) -> None:
        """Sort the oldest batch alone, or set it aside: every successor would fail at it."""
        try:
            self._sorter.advance(1)
        except (ValueError, LookupError) as error:
            self._set_aside(self._archive.drop_oldest(), type(error).__name__)
