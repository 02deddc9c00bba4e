"""The lead: which thread of a worker works, and for whom (the Leader/Followers pattern).

Under the GIL threads cannot work side by side, only take turns at it, and each change costs more
than most turns do. So one thread has the lead: it waits for all *stations*, which are the router
and the loops, and does *rounds*, in which each of them takes a turn for which something has come.
The others wait and cost nothing; after a shift the next one gets the lead. What a station owns is
therefore touched by one thread at a time, and seen whole by the next.

With `turn_lock = false` every station has a lead with one thread of its own: for an interpreter
without a GIL, and to measure what the above is worth.
"""

from __future__ import annotations

import select
import threading
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

SHIFT_SECONDS = 1.0
"""How long a thread keeps the lead: a change costs a few system calls, and a CPU's caches."""


class Station(Protocol):
    """What has turns: a loop, or the router."""

    @property
    def turn_at(self) -> float:
        """Monotonic time of its next turn, if nothing comes before; its heart must beat."""

    @property
    def is_over(self) -> bool:
        """True when it needs no turns any more."""

    def fileno(self) -> int:
        """Return the descriptor that is readable while something has come for it."""

    def take_turn(self) -> bool:
        """Do what there is to do, if there is anything; never wait.

        True: there is something for stations behind it now.
        """


class Lead:
    """The lead over some stations, for so many threads that call `follow`."""

    def __init__(self, stations: Sequence[Station], threads: int) -> None:
        self._stations = {station.fileno(): station for station in stations}
        self._poller = select.epoll()
        for fd in self._stations:
            self._poller.register(fd, select.EPOLLIN)
        self._batons = [threading.Lock() for _ in range(threads)]
        for baton in self._batons[1:]:
            baton.acquire()

    def follow(self, number: int) -> None:
        """Take the lead whenever it comes round to this thread, until all stations are over."""
        mine = self._batons[number]
        next_one = self._batons[(number + 1) % len(self._batons)]
        while self._stations:
            mine.acquire()
            self._do_rounds(monotonic() + SHIFT_SECONDS)
            next_one.release()

    def _do_rounds(self, until: float) -> None:
        """Wait and work until that time has passed, and a round is done."""
        now = 0.0
        while self._stations and now < until:
            turn_at = min([station.turn_at for station in self._stations.values()])
            ready = dict(self._poller.poll(max(0.0, turn_at - monotonic())))
            now = monotonic()
            has_more = has_ended = False
            for fd, station in self._stations.items():
                if has_more or fd in ready or station.turn_at <= now:
                    has_more |= station.take_turn()
                    has_ended |= station.is_over
            if has_ended:
                self._let_go()

    def _let_go(self) -> None:
        """Give no more turns to those who are over; the router is when all loops are."""
        for fd in [fd for fd, station in self._stations.items() if station.is_over]:
            self._poller.unregister(fd)
            del self._stations[fd]
