"""How the daemon goes down: who gets SIGTERM and SIGKILL, when, and when it is given up.

Pure decision of the supervisor's only thread; times are monotonic nanoseconds and are passed in.
All living workers get SIGTERM once, and SIGCONT, lest one that is stopped sleeps through it. Who
still lives `stop_seconds` later, or at a second signal, gets SIGKILL; then at most one a second. A
process that does not even die of that (it hangs in the kernel) does not keep the daemon for ever.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.supervisor.children import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

KILL_GAP_NS: Final = NANOSECONDS
# Far above what the kernel needs to end a worker with 20,000 sockets.
GIVE_UP_NS: Final = 10 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal to be sent now."""

    pid: int
    signal: signal.Signals


class Stop:
    """A stop under way. Owner: the supervisor's thread."""

    def __init__(self, stop_seconds: float, now_ns: int) -> None:
        self._kill_ns = now_ns + int(stop_seconds * NANOSECONDS)
        self._is_asked = False
        self._killing_since_ns: int | None = None

    def hurry(self, now_ns: int) -> None:
        """Take the rest of the time away: a second signal came."""
        if self._killing_since_ns is None:
            self._kill_ns = min(self._kill_ns, now_ns)

    def check(self, pids: Iterable[int], now_ns: int) -> list[Signal]:
        """Return the signals to send now to the living workers `pids`; they count as sent."""
        orders = []
        if not self._is_asked:
            self._is_asked = True
            orders += [Signal(p, s) for p in pids for s in (signal.SIGTERM, signal.SIGCONT)]
        if now_ns >= self._kill_ns:
            self._kill_ns = now_ns + KILL_GAP_NS
            self._killing_since_ns = self._killing_since_ns or now_ns
            orders += [Signal(pid, signal.SIGKILL) for pid in pids]
        return orders

    def next_check_ns(self) -> int:
        """Return when `check` or `is_given_up` may say something new."""
        return self._kill_ns

    def is_given_up(self, now_ns: int) -> bool:
        """Say whether SIGKILL has had its time and it makes no sense to wait on."""
        since = self._killing_since_ns
        return since is not None and now_ns >= since + GIVE_UP_NS
