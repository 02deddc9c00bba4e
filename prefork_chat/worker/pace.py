"""The rate limit: who has used up his lines a second is read later; nobody is thrown out.

A token bucket for each client: `burst_lines` deep, refilled with `lines_per_second`. What he sends
meanwhile waits in the kernel, and in the end in his own socket. Owner: one loop, in its turn.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from prefork_chat.worker.connection import Connection, Pause

if TYPE_CHECKING:
    from prefork_chat.config import LimitsConfig
    from prefork_chat.worker.clients import Clients


class Pace:
    """Token buckets of a loop's clients, and a heap of those that wait for a token."""

    __slots__ = ("_burst", "_clients", "_delayed", "_order", "_rate", "is_limited")

    def __init__(self, clients: Clients, limits: LimitsConfig) -> None:
        self._clients = clients
        self._rate = limits.lines_per_second
        self.is_limited = self._rate > 0
        self._burst = float(limits.burst_lines)
        self._delayed: list[tuple[float, int, Connection]] = []
        self._order = count()

    def charge(self, connection: Connection, lines: int, now: float) -> None:
        """Take `lines` tokens; a client in debt is not read until the debt is paid."""
        if not connection.credited_at:
            connection.credit = self._burst
        else:
            earned = (now - connection.credited_at) * self._rate
            connection.credit = min(self._burst, connection.credit + earned)
        connection.credited_at = now
        connection.credit -= lines
        if connection.credit < 0 and not connection.pauses & Pause.RATE.value:
            self._clients.pause(connection, Pause.RATE)
            due = now - connection.credit / self._rate
            heappush(self._delayed, (due, next(self._order), connection))

    def release(self, now: float) -> None:
        """Read those again whose debt is paid."""
        while self._delayed and self._delayed[0][0] <= now:
            self._clients.resume(heappop(self._delayed)[2], Pause.RATE)

    def wake_at(self) -> float:
        """When the loop has to look here again at the latest, in monotonic seconds."""
        return self._delayed[0][0] if self._delayed else float("inf")
