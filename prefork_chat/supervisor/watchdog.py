"""Who is stuck: which worker gets SIGABRT or SIGKILL because its heart has stopped.

Pure decision of the supervisor's only thread: no signal, clock or shared memory of its own. The
supervisor calls `check` with the pulses of all living workers and carries the sentences out; times
are monotonic nanoseconds.

A worker is stale when its stalest heartbeat (router or any loop; all start at the fork, so a
start-up that hangs is found too) is `period` old. It is sentenced: SIGABRT, for the stack dump, a
second later SIGKILL, and from then on at most one SIGKILL a second until it is reaped.

Two cases in which a stale worker is spared for one more period:
- *The registry's writer.* All who wait for the write semaphore stand still because one does. While
  its holder is late itself (half a period without a beat), nobody else is sentenced: when the
  holder has gone the kernel gives the semaphore back and their hearts beat again.
- *The supervisor's own absence.* If the check comes much later than planned (the whole process
  group was stopped and continued), the hearts have had no chance either.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.supervisor.children import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

# Between SIGABRT and the first SIGKILL, and between SIGKILLs: enough for faulthandler to write the
# stacks of 32 threads; gunicorn #2454 and pitchfork 4f6178e1 are what happens without.
GAP_NS: Final = NANOSECONDS


@dataclass(frozen=True, slots=True)
class Pulse:
    """A living worker and the oldest of its heartbeats."""

    p_id: int
    pid: int
    stalest_ns: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """A signal to be sent now. `silent_seconds`: since the stalest heartbeat."""

    p_id: int
    pid: int
    signal: signal.Signals
    silent_seconds: float


class Watchdog:
    """Remembers who was sentenced or spared. Owner: the supervisor's thread."""

    def __init__(self, period_seconds: float) -> None:
        self.set_period(period_seconds)
        self._next_kill_ns: dict[int, int] = {}  # by pid: sentenced
        self._spared_until_ns: dict[int, int] = {}  # by pid
        self._planned_ns: int | None = None

    def set_period(self, period_seconds: float) -> None:
        """Bear another silence from now on."""
        self._period_ns = int(period_seconds * NANOSECONDS)

    def check(self, pulses: Sequence[Pulse], writer_pid: int, now_ns: int) -> list[Sentence]:
        """Return the signals to send now; forgets every process that has no pulse any more.

        `writer_pid`: who holds the registry's write semaphore, 0 for nobody. A sentence counts
        as carried out.
        """
        self._forget_all_but({pulse.pid for pulse in pulses})
        if self._planned_ns is not None and now_ns > self._planned_ns + self._period_ns // 4:
            self._spare(pulses, now_ns)
        late_writer = self._late_writer(pulses, writer_pid, now_ns)
        sentences = []
        for pulse in pulses:
            if pulse.pid in self._next_kill_ns:
                sentences += self._kill(pulse, now_ns)
            elif now_ns >= self._deadline_ns(pulse):
                if late_writer in (None, pulse.pid):
                    sentences.append(self._sentence(pulse, now_ns))
                else:
                    self._spare([pulse], now_ns)
        self._planned_ns = self.next_check_ns(pulses)
        return sentences

    def next_check_ns(self, pulses: Sequence[Pulse]) -> int | None:
        """Return when `check` has something to decide, if no heart beats until then."""
        return min(
            (self._next_kill_ns.get(pulse.pid, self._deadline_ns(pulse)) for pulse in pulses),
            default=None,
        )

    def _deadline_ns(self, pulse: Pulse) -> int:
        spared_until = self._spared_until_ns.get(pulse.pid, 0)
        return max(pulse.stalest_ns + self._period_ns, spared_until)

    def _late_writer(self, pulses: Sequence[Pulse], writer_pid: int, now_ns: int) -> int | None:
        """Return the pid of the writer if it is one of the workers and late itself."""
        for pulse in pulses:
            if pulse.pid == writer_pid and now_ns - pulse.stalest_ns >= self._period_ns // 2:
                return pulse.pid
        return None

    def _sentence(self, pulse: Pulse, now_ns: int) -> Sentence:
        self._next_kill_ns[pulse.pid] = now_ns + GAP_NS
        return self._order(pulse, signal.SIGABRT, now_ns)

    def _kill(self, pulse: Pulse, now_ns: int) -> list[Sentence]:
        if now_ns < self._next_kill_ns[pulse.pid]:
            return []
        self._next_kill_ns[pulse.pid] = now_ns + GAP_NS
        return [self._order(pulse, signal.SIGKILL, now_ns)]

    def _spare(self, pulses: Sequence[Pulse], now_ns: int) -> None:
        for pulse in pulses:
            self._spared_until_ns[pulse.pid] = now_ns + self._period_ns

    def _forget_all_but(self, pids: set[int]) -> None:
        for known in (self._next_kill_ns, self._spared_until_ns):
            for pid in known.keys() - pids:
                del known[pid]

    @staticmethod
    def _order(pulse: Pulse, number: signal.Signals, now_ns: int) -> Sentence:
        return Sentence(pulse.p_id, pulse.pid, number, (now_ns - pulse.stalest_ns) / NANOSECONDS)
