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
from prefork_chat.history.search import STEP_ROWS, Indexer
from prefork_chat.history.sorting import STEP_MESSAGES, Sorter

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.config import HistoryConfig
    from prefork_chat.history.archive import Archive

MOST_TAIL_BYTES: Final = 128 * 1024 * 1024
"""Of messages that are not sorted, more than a million; above it they are, whoever waits. So much
may come in a flood before sorting slows it by a third. It is there for seconds: who asks then waits
1 or 2 ms a megabyte, if he has said little; else a few bodies have what he asks for."""

MOST_STEPS: Final = 16
"""Of sorting, at once: about 60,000 messages, twice what one batch may have, in 0.25 s."""

SORT_SECONDS: Final = 0.25
"""Until what has come is sorted, if it is less than a step: many at once cost less."""

SORT_REST: Final = 9.0
"""Times as long as it has sorted it rests: up to 30,000 messages a second a tenth of a CPU is
enough, and in a flood the rest is for who waits."""

INDEX_SECONDS: Final = 1.0
"""The same for the index: few at once make many small pieces of it, to be merged later."""

INDEX_REST: Final = 3.0
"""Times as long as it has indexed it rests: at most a quarter of a CPU goes into the index."""

INDEX_TAIL_BYTES: Final = 512 * 1024
"""With more unsorted than this nothing is indexed: in a flood there are more urgent things."""

IDLE_SECONDS: Final = 0.5
"""When nothing has come for so long there is no rest from anything: nobody waits, and the sooner
all is sorted and indexed the less questions cost. Whoever comes then waits for one step."""

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
        self._idle_at = 0.0
        self._sort_at = 0.0
        self._index_at = 0.0
        self._look_at = 0.0

    def wake_at(self) -> float:
        """Return when there is something to do, in monotonic seconds; it may be in the past."""
        return min(self._due())

    def expect(self) -> None:
        """Take note that something is about to be stored."""
        now = time.monotonic()
        self._idle_at = now + IDLE_SECONDS
        if not self._sorter.behind:
            self._sort_at = max(self._sort_at, now + SORT_SECONDS)

    def keep_tail_short(self) -> None:
        """Sort, although there is no time for it, while too much of the history is unsorted."""
        for _ in range(MOST_STEPS):
            if self._archive.tail_bytes <= MOST_TAIL_BYTES:
                break
            self._sort()

    def advance(self, now_ms: int) -> None:
        """Take one step, if one is due; `now_ms` is in milliseconds since 1970."""
        now = time.monotonic()
        sort_at, index_at = self._due()
        if sort_at <= now:
            self._sort()
        elif index_at <= now:
            self._index()
        elif now >= self._look_at and not self._retention.advance(now_ms):
            self._look_at = now + RETENTION_SECONDS

    def _due(self) -> tuple[float, float]:
        """Return when to sort and when to index, inf: not at all."""
        sort_at = index_at = float("inf")
        if self._sorter.behind:
            sort_at = min(self._sort_at, self._idle_at)
        if self._indexer.behind and self._archive.tail_bytes <= INDEX_TAIL_BYTES:
            index_at = min(self._index_at, self._idle_at)
        return sort_at, index_at

    def _sort(self) -> None:
        started = time.monotonic()
        try:
            self._sorter.advance()
        except (ValueError, LookupError):  # a bug, for some batch: the others must not wait for it
            self._sort_one()
        done = time.monotonic()
        least = SORT_SECONDS if self._sorter.behind < STEP_MESSAGES else 0.0
        self._sort_at = done + max(least, SORT_REST * (done - started))

    def _index(self) -> None:
        started = time.monotonic()
        self._indexer.advance()
        done = time.monotonic()
        least = INDEX_SECONDS if self._indexer.behind < STEP_ROWS else 0.0
        self._index_at = done + max(least, INDEX_REST * (done - started))

    def _sort_one(self) -> None:
        """Sort the oldest batch alone, or set it aside: every successor would fail at it."""
        try:
            self._sorter.advance(1)
        except (ValueError, LookupError) as error:
            self._set_aside(self._archive.drop_oldest(), type(error).__name__)
