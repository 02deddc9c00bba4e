"""The workers' lives as they happen: forks them, reaps them, hears that they are ready, kills them.

The hands of the supervisor's loop, in its only thread. What is to be done is decided elsewhere
(`children`, `watchdog`, `replacing`, `stopping`: pure); here it is carried out, logged, and entered
into the worker table that all processes see. What SIGTERM means for a worker is in its row of that
table before the signal is sent.

Processes are reaped here and nowhere else, one by one and by pid: `waitid` looks who has ended, and
only then `waitpid` takes him. Whoever is not in the table of children is a stranger (as PID 1 the
supervisor inherits orphans): reaped, and no worker's death. A death frees nothing: the clients, the
names and the slots are the successor's, and what the dead one has said to the keeper is heard
before the fork.
"""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from prefork_chat.log import (
    WORKER_EXITED,
    WORKER_KILLED,
    WORKER_READY,
    WORKER_RECALLED,
    WORKER_SPAWNED,
    WORKER_STUCK,
    WORKER_THROTTLED,
    WORKER_TOLD,
    get_logger,
)
from prefork_chat.registry.endings import Ending, describe_status
from prefork_chat.registry.table import ORDER, STATE, Order, WorkerState
from prefork_chat.supervisor.children import (
    NANOSECONDS,
    Children,
    Phase,
)
from prefork_chat.supervisor.spawn import spawn
from prefork_chat.supervisor.stopping import Signal
from prefork_chat.supervisor.upgrading import Trial
from prefork_chat.supervisor.watchdog import Pulse, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_chat.config import Config
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.supervisor.children import Child, Ended
    from prefork_chat.supervisor.deed import Deed
    from prefork_chat.supervisor.estate import Estate
    from prefork_chat.supervisor.replacing import Replacing
    from prefork_chat.supervisor.stopping import Stop

_IN_ORDER: Final = (Ending.RETIRED, Ending.STOPPED, Ending.LEFT)
_HAS_SERVED: Final = (WorkerState.READY, WorkerState.RETIRING, WorkerState.STOPPING)
"""One that retires soon may have ended before its first state is looked at."""


class Workforce:
    """All worker processes of the daemon. Owner: the supervisor's thread.

    `children` is the table; others may read it.
    """

    def __init__(
        self,
        config: Config,
        estate: Estate,
        renounce: Callable[[], None],
        run_worker: Callable[[Inheritance], int],
    ) -> None:
        """Prepare; nobody is forked yet.

        A child calls `renounce`, which gives up what is the supervisor's alone, and `run_worker`.
        """
        self._table: Final = estate.registry.table
        self.children: Final = Children(
            config.server.workers, self._table.workers, config.respawn, random.random
        )
        self._watchdog: Final = Watchdog(config.server.watchdog_seconds)
        self._config = config
        self._estate: Final = estate
        self._renounce: Final = renounce
        self._run_worker: Final = run_worker
        self._log: Final = get_logger()

    def resume(self, children: Iterable[Child]) -> None:
        """Go on with the children of a supervisor before us, in this process.

        More of them may be wanted now, or fewer.
        """
        for child in children:
            self.children.resume(child)
        self.children.resize(self.children.wanted, time.monotonic_ns())
        for child in self.children.everyone():
            if child.phase is Phase.ABSENT and child.generation:
                self._estate.mail.watch(child.p_id)

    def revive(self) -> None:
        """Go on after the workers of a dead supervisor: whoever owns a session gets a successor."""
        owners = {held.p_id for held in self._estate.registry.sessions()}
        for child in self.children.everyone():
            self.children.count_on(child.p_id, abs(self._table.incarnations[child.p_id]))
            if child.p_id in owners:
                self.children.recall(child.p_id, time.monotonic_ns())
            elif child.phase is Phase.ABSENT and child.generation:
                self._estate.mail.watch(child.p_id)

    def begin_trial(self, deed: Deed) -> Trial:
        """Run the program that is to take over, to see whether it can; raises OSError."""
        return Trial(deed, self._renounce)

    def adopt(self, config: Config) -> None:
        """Fork workers with `config` from now on, as many as it wants.

        Living ones beat as the old one wants: until `settle` the watchdog is as patient as both.
        """
        old = self._config.server.watchdog_seconds
        self._watchdog.set_period(max(old, config.server.watchdog_seconds))
        self._config = config
        self.children.policy = config.respawn
        self.children.resize(config.server.workers, time.monotonic_ns())

    def settle(self) -> None:
        """Take it that all workers have been forked with the present configuration."""
        self._watchdog.set_period(self._config.server.watchdog_seconds)

    def next_deadline_ns(self) -> int | None:
        """Return when `fork_due` or `watch` has something to do, if nothing happens before."""
        deadlines = (
            self.children.next_due_ns(),
            self.children.next_settle_ns(),
            self._watchdog.next_check_ns(self._pulses()),
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def reap(self) -> list[tuple[int, int]]:
        """Take away every child that has ended, and schedule its successor.

        Returns (pid, waitpid's status) of those that were no workers.
        """
        strangers = []
        while (pid := _ended_pid()) is not None:
            _, status = os.waitpid(pid, 0)
            child = self.children.find(pid)
            if child is None:
                strangers.append((pid, status))  # a trial, or an orphan that PID 1 inherits
                continue
            self._read_state(child)
            self._table.end(child.p_id)
            ended = self.children.ended(
                pid, status, time.monotonic_ns(), is_vacant=self._is_vacant(child)
            )
            if ended is not None:
                self._tell_ended(ended, status)
                if ended.ending is Ending.LEFT:
                    self._estate.mail.watch(ended.p_id)
        return strangers

    def read_news(self) -> None:
        """Look at the workers' states, if one said that it has changed."""
        try:
            os.eventfd_read(self._estate.news)
        except BlockingIOError:
            return  # nobody
        for child in self.children.living():
            self._read_state(child)

    def recall(self) -> None:
        """Have a worker forked for each that has left and for whom something has come since."""
        for p_id in self._estate.mail.take():
            if self.children.recall(p_id, time.monotonic_ns()):
                self._log.info(WORKER_RECALLED, p_id=p_id)

    def fork_due(self) -> None:
        """Fork every worker whose time has come; forget the crashes of those who live on."""
        self.children.settle(time.monotonic_ns())
        for child in self.children.due(time.monotonic_ns()):
            self._fork(child.p_id)

    def watch(self) -> None:
        """Abort or kill the workers whose heart has stopped.

        Raises SemaphoreGone if somebody removed the write semaphore.
        """
        writer_pid = self._estate.registry.writer_pid()
        for sentence in self._watchdog.check(self._pulses(), writer_pid, time.monotonic_ns()):
            self._log.warning(
                WORKER_STUCK if sentence.signal is signal.SIGABRT else WORKER_KILLED,
                p_id=sentence.p_id,
                pid=sentence.pid,
                signal=sentence.signal.name,
                silent_seconds=round(sentence.silent_seconds, 1),
            )
            os.kill(sentence.pid, sentence.signal)

    def tell_surplus(self, order: Order) -> None:
        """Tell every surplus worker how to end, once it is ready to hear it."""
        for child in self.children.to_be_told(order):
            child.told = order
            self._send(order, Signal(child.pid, signal.SIGTERM))
            self._send(order, Signal(child.pid, signal.SIGCONT))

    def replace(self, replacing: Replacing) -> None:
        """Send the living what the replacement wants them to get now."""
        for sent in replacing.check(self.children, time.monotonic_ns()):
            self._send(Order.HAND_OVER, sent)

    def press(self, stop: Stop) -> None:
        """Send the living what the stop wants them to get now."""
        pids = [child.pid for child in self.children.living()]
        for sent in stop.check(pids, time.monotonic_ns()):
            self._send(Order.STOP, sent)

    def _send(self, order: Order, sent: Signal) -> None:
        """Send a signal to a child; `order` is what a SIGTERM shall mean."""
        child = self.children.find(sent.pid)
        assert child is not None, "only children are sent signals"
        log = self._log.bind(p_id=child.p_id, generation=child.generation, pid=sent.pid)
        if sent.signal is signal.SIGTERM:
            self._table.row(child.p_id)[ORDER] = order
            log.info(WORKER_TOLD, order=order.name.lower())
        elif sent.signal is signal.SIGKILL:
            log.warning(WORKER_KILLED, signal=sent.signal.name)
        os.kill(sent.pid, sent.signal)

    def _is_vacant(self, child: Child) -> bool:
        """Say whether a surplus worker has left no session behind."""
        return self.children.is_surplus(child) and not any(
            held.p_id == child.p_id for held in self._estate.registry.sessions()
        )

    def _fork(self, p_id: int) -> None:
        generation = self.children.next_generation(p_id)
        self._estate.mail.ignore(p_id)
        self._estate.keeper.prepare_fork(self._estate.registry.generations)
        inheritance = self._estate.inheritance(self._config, p_id, generation)
        now = time.monotonic_ns()
        self._table.begin(p_id, generation, now)
        log = self._log.bind(p_id=p_id, generation=generation)
        try:
            pid = spawn(self._renounce, partial(self._run_worker, inheritance))
        except OSError as error:
            self._table.end(p_id)
            delay = self.children.fork_failed(p_id, time.monotonic_ns())
            log.warning(WORKER_THROTTLED, fork=error.strerror, delay_seconds=round(delay, 3))
            return
        self.children.forked(p_id, pid, now)
        log.info(WORKER_SPAWNED, pid=pid)

    def _read_state(self, child: Child) -> None:
        if self._table.row(child.p_id)[STATE] not in _HAS_SERVED:
            return
        if self.children.became_ready(child.p_id):
            took = (time.monotonic_ns() - child.forked_ns) / NANOSECONDS
            self._log.info(
                WORKER_READY,
                p_id=child.p_id,
                generation=child.generation,
                pid=child.pid,
                start_seconds=round(took, 3),
            )

    def _pulses(self) -> list[Pulse]:
        return [
            Pulse(child.p_id, child.pid, self._table.stalest_heartbeat_ns(child.p_id))
            for child in self.children.living()
        ]

    def _tell_ended(self, ended: Ended, status: int) -> None:
        """Log the end of a worker, and show it to whoever looks on."""
        self._estate.registry.endings.add(
            p_id=ended.p_id,
            generation=ended.generation,
            pid=ended.pid,
            ending=ended.ending,
            status=status,
            ended_ns=time.time_ns(),
            lived_ns=int(ended.lived_seconds * NANOSECONDS),
        )
        log = self._log.bind(p_id=ended.p_id, generation=ended.generation, pid=ended.pid)
        told = log.info if ended.ending in _IN_ORDER else log.warning
        lived = round(ended.lived_seconds, 3)
        how = describe_status(status)
        told(WORKER_EXITED, how=how, meaning=ended.ending.value, lived_seconds=lived)
        if ended.ending is Ending.CRASHED:
            delay = round(ended.delay_seconds, 3)
            log.warning(WORKER_THROTTLED, crashes=ended.crashes, delay_seconds=delay)


def _ended_pid() -> int | None:
    """Return the pid of a child that has ended and was not reaped yet, None if there is none."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
