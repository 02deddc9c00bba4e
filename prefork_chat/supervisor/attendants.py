"""The attendants: children of the supervisor that are no workers, one process each, at most.

An attendant does one thing for all workers (the historian writes the history). It serves no client,
accepts nobody and adopts nothing; what it was about is where its successor finds it. Otherwise it
lives as a worker does, and the same decisions are used for it: `Children` says when it is forked
again, a table of one for each; `Watchdog` whether it is stuck, `Replacing` how it gives way to its
successor, `Stop` how it ends. But however often it crashes, the daemon does not give up: it goes on
without, and tries again after the longest wait.

An attendant is told by the order in its row and a SIGTERM, like a worker: HAND_OVER (end now, a
successor goes on) or STOP (do what there is to do, then end). It ends last: workers have gone
before it, so what they left for it is all there. It ends by itself when the supervisor is gone.

Which attendants there may be is fixed (`inheritance.ATTENDANTS`: each has a pair from the start);
which of them run is the configuration's business, and may change with it. The hands and the table
of the supervisor's only thread; what an attendant does it is told by whoever made the supervisor.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from prefork_chat.inheritance import ATTENDANTS
from prefork_chat.log import (
    ATTENDANT_EXITED,
    ATTENDANT_KILLED,
    ATTENDANT_READY,
    ATTENDANT_SPAWNED,
    ATTENDANT_STUCK,
    ATTENDANT_THROTTLED,
    ATTENDANT_TOLD,
    get_logger,
)
from prefork_chat.registry.endings import Ending, describe_status
from prefork_chat.registry.table import ORDER, PID, STATE, Order, WorkerState
from prefork_chat.supervisor.children import (
    NANOSECONDS,
    Children,
)
from prefork_chat.supervisor.deed import read_child, write_child
from prefork_chat.supervisor.replacing import Replacing
from prefork_chat.supervisor.reviving import await_end
from prefork_chat.supervisor.spawn import spawn
from prefork_chat.supervisor.stopping import Signal, Stop
from prefork_chat.supervisor.watchdog import Pulse, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prefork_chat.config import Config
    from prefork_chat.inheritance import Attendance
    from prefork_chat.supervisor.children import Child
    from prefork_chat.supervisor.deed import ChildEntry
    from prefork_chat.supervisor.estate import Estate

_ONLY: Final = 0
"""The number of the one child that each table has."""

_IN_ORDER: Final = (Ending.RETIRED, Ending.STOPPED, Ending.LEFT)


@dataclass(frozen=True, slots=True)
class Duty:
    """What an attendant is there for: its main function, and whether a configuration wants it."""

    run: Callable[[Attendance], int]
    is_wanted: Callable[[Config], bool]


@dataclass(frozen=True, slots=True)
class _Seat:
    """One attendant: its name, its row in the table, and who has the place."""

    name: str
    place: int
    children: Children
    replacing: Replacing = field(default_factory=Replacing)

    @property
    def child(self) -> Child:
        return self.children[_ONLY]


class Attendants:
    """All attendants of the daemon. Owner: the supervisor's thread."""

    def __init__(
        self,
        config: Config,
        estate: Estate,
        renounce: Callable[[], None],
        duties: Mapping[str, Duty],
    ) -> None:
        """Prepare; nobody is forked yet. A child calls `renounce`, then its duty's `run`."""
        self._config = config
        self._estate: Final = estate
        self._table: Final = estate.attendants
        self._renounce: Final = renounce
        self._duties: Final = duties
        self._watchdog: Final = Watchdog(config.server.watchdog_seconds)
        self._stop: Stop | None = None
        self._log: Final = get_logger()
        self._seats: Final = [
            _Seat(name, place, Children(self._wanted(name), 1, config.respawn, random.random))
            for place, name in enumerate(ATTENDANTS)
        ]

    # Going on after another supervisor

    def entries(self) -> list[ChildEntry]:
        """Return what a supervisor after us must know of them."""
        return [write_child(seat.child) for seat in self._seats]

    def resume(self, entries: Iterable[ChildEntry]) -> None:
        """Go on with the attendants of a supervisor before us, in this process.

        More of them may be wanted now, or fewer; `adopt` then has them replaced.
        """
        for seat, entry in zip(self._seats, entries, strict=False):
            seat.children.resume(read_child(entry))
            seat.children.resize(seat.children.wanted, time.monotonic_ns())

    def revive(self) -> None:
        """Go on after those of a dead supervisor, once they have noticed; raises StartError."""
        for seat in self._seats:
            row = self._table.row(seat.place)
            await_end(row[PID])
            self._table.end(seat.place)
            incarnation = abs(self._table.incarnations[seat.place])
            seat.children.count_on(_ONLY, incarnation)

    # Changes

    def adopt(self, config: Config) -> None:
        """Fork with `config` from now on, and have those that live replaced."""
        old = self._config.server.watchdog_seconds
        self._watchdog.set_period(max(old, config.server.watchdog_seconds))
        self._config = config
        for seat in self._seats:
            seat.children.policy = config.respawn
            seat.children.resize(self._wanted(seat.name), time.monotonic_ns())
            if seat.child.pid and not seat.children.is_surplus(seat.child):
                targets = {_ONLY: seat.child.generation}
                seat.replacing.begin("renew", targets, time.monotonic_ns())

    def stop(self) -> None:
        """Have all of them end in order, or hurry if they have been asked before."""
        now = time.monotonic_ns()
        if self._stop is not None:
            self._stop.hurry(now)
            return
        self._stop = Stop(self._config.server.stop_seconds, now)
        for seat in self._seats:
            seat.children.stop()
            seat.replacing.abandon("the daemon is stopping")

    # Once in each turn of the supervisor's loop

    def bury(self, pid: int, status: int) -> bool:
        """Take note of the end of a process; False if it was no attendant."""
        for seat in self._seats:
            if seat.children.find(pid) is not None:
                self._bury(seat, pid, status)
                return True
        return False

    def read_news(self) -> None:
        """Look at their states."""
        for seat in self._living():
            self._read_state(seat)

    def advance(self) -> None:
        """Fork whose time has come, see who is stuck, carry on with changes and the stop."""
        now = time.monotonic_ns()
        for seat in self._seats:
            seat.children.settle(now)
            for _ in seat.children.due(now):
                self._fork(seat)
            seat.replacing.settle(seat.children)
            for sent in seat.replacing.check(seat.children, now):
                self._send(seat, Order.HAND_OVER, sent)
            for child in seat.children.to_be_told(Order.STOP):
                child.told = Order.STOP
                self._send(seat, Order.STOP, Signal(child.pid, signal.SIGTERM))
        self._watch(now)
        if self._stop is not None:
            by_pid = {seat.child.pid: seat for seat in self._living()}
            for sent in self._stop.check(by_pid, now):
                self._send(by_pid[sent.pid], Order.STOP, sent)

    def next_deadline_ns(self) -> int | None:
        """Return when `advance` has something to do, if nothing happens before."""
        deadlines = [self._watchdog.next_check_ns(self._pulses())]
        if self._stop is not None:
            deadlines.append(self._stop.next_check_ns())
        for seat in self._seats:
            deadlines += (
                seat.children.next_due_ns(),
                seat.children.next_settle_ns(),
                seat.replacing.next_check_ns(),
            )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def is_over(self) -> bool:
        """Say whether all have ended as they should, or are given up."""
        if self._stop is None:
            return False
        pids = [seat.child.pid for seat in self._living()]
        if pids and self._stop.is_given_up(time.monotonic_ns()):
            self._log.error(ATTENDANT_STUCK, pids=pids, meaning="left behind: SIGKILL is no help")
            return True
        return not pids

    # The hands

    def _wanted(self, name: str) -> int:
        duty = self._duties.get(name)
        return int(duty is not None and duty.is_wanted(self._config))

    def _living(self) -> list[_Seat]:
        return [seat for seat in self._seats if seat.child.pid]

    def _fork(self, seat: _Seat) -> None:
        generation = seat.children.next_generation(_ONLY)
        attendance = self._estate.attendance(self._config, seat.place, generation)
        now = time.monotonic_ns()
        self._table.begin(seat.place, generation, now)
        log = self._log.bind(name=seat.name, generation=generation)
        try:
            pid = spawn(self._renounce, partial(self._run, seat.name, attendance))
        except OSError as error:
            self._table.end(seat.place)
            delay = seat.children.fork_failed(_ONLY, time.monotonic_ns())
            log.warning(ATTENDANT_THROTTLED, fork=error.strerror, delay_seconds=round(delay, 3))
            return
        seat.children.forked(_ONLY, pid, now)
        log.info(ATTENDANT_SPAWNED, pid=pid)

    def _run(self, name: str, attendance: Attendance) -> int:
        """Be the attendant, in a child: without the clients' sockets, which it would keep open."""
        for fd in self._of_clients():
            os.close(fd)
        self._table.row(attendance.place)[PID] = os.getpid()
        return self._duties[name].run(attendance)

    def _of_clients(self) -> Iterator[int]:
        for _, fd in self._estate.keeper.kept.values():
            yield fd
        for listener in self._estate.listeners.sockets:
            yield listener.detach()
        yield self._estate.door.socket.detach()

    def _bury(self, seat: _Seat, pid: int, status: int) -> None:
        self._read_state(seat)
        self._table.end(seat.place)
        ended = seat.children.ended(pid, status, time.monotonic_ns(), is_vacant=True)
        assert ended is not None, "it was found a moment ago"
        log = self._log.bind(name=seat.name, generation=ended.generation, pid=pid)
        told = log.info if ended.ending in _IN_ORDER else log.warning
        lived = round(ended.lived_seconds, 3)
        how = describe_status(status)
        told(ATTENDANT_EXITED, how=how, meaning=ended.ending.value, lived_seconds=lived)
        if ended.ending is Ending.CRASHED:
            delay = round(ended.delay_seconds, 3)
            log.warning(ATTENDANT_THROTTLED, crashes=ended.crashes, delay_seconds=delay)

    def _read_state(self, seat: _Seat) -> None:
        is_ready = self._table.row(seat.place)[STATE] == WorkerState.READY
        if is_ready and seat.children.became_ready(_ONLY):
            took = (time.monotonic_ns() - seat.child.forked_ns) / NANOSECONDS
            self._log.info(
                ATTENDANT_READY,
                name=seat.name,
                generation=seat.child.generation,
                pid=seat.child.pid,
                start_seconds=round(took, 3),
            )

    def _pulses(self) -> list[Pulse]:
        return [
            Pulse(seat.place, seat.child.pid, self._table.stalest_heartbeat_ns(seat.place))
            for seat in self._living()
        ]

    def _watch(self, now: int) -> None:
        for sentence in self._watchdog.check(self._pulses(), 0, now):
            self._log.warning(
                ATTENDANT_STUCK if sentence.signal is signal.SIGABRT else ATTENDANT_KILLED,
                name=self._seats[sentence.p_id].name,
                pid=sentence.pid,
                signal=sentence.signal.name,
                silent_seconds=round(sentence.silent_seconds, 1),
            )
            os.kill(sentence.pid, sentence.signal)

    def _send(self, seat: _Seat, order: Order, sent: Signal) -> None:
        """Send a signal; `order` is what a SIGTERM shall mean."""
        log = self._log.bind(name=seat.name, generation=seat.child.generation, pid=sent.pid)
        if sent.signal is signal.SIGTERM:
            self._table.row(seat.place)[ORDER] = order
            log.info(ATTENDANT_TOLD, order=order.name.lower())
        elif sent.signal is signal.SIGKILL:
            log.warning(ATTENDANT_KILLED, signal=sent.signal.name)
        os.kill(sent.pid, sent.signal)
