"""The supervisor: starts the daemon, goes round its one loop, and takes everything away at the end.

Runs in the main, and only, thread of the process that was started; called by the command. Decides
when the daemon is ready, when it stops and with which exit code. Once per turn of the loop, in this
order:

    wait → signals → reap → news → fork what is due, watch | stop → tell systemd

What is done with processes is `workforce`'s. Signals come in during the wait and nowhere else
(`signals`). Fails by what `Estate.make` raises; after that it goes on until it is told to stop,
until a worker has crashed `max_crashes` times in a row, or until the write semaphore is gone.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from prefork_chat import __version__
from prefork_chat.log import (
    SIGNAL_RECEIVED,
    SUPERVISOR_DEGRADED,
    SUPERVISOR_READY,
    SUPERVISOR_STARTED,
    SUPERVISOR_STOPPED,
    SUPERVISOR_STOPPING,
    WORKER_STUCK,
    get_logger,
)
from prefork_chat.registry.ipc import SemaphoreGone
from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.estate import Estate
from prefork_chat.supervisor.listeners import Interrupted, describe
from prefork_chat.supervisor.notify import Notifier, take_listen_fds
from prefork_chat.supervisor.signals import STOP, SignalInbox
from prefork_chat.supervisor.stopping import Stop
from prefork_chat.supervisor.workforce import Workforce

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.config import Config
    from prefork_chat.inheritance import Inheritance


class Supervisor:
    """The daemon's parent process, for one run. Owner: the main thread."""

    def __init__(self, config: Config, run_worker: Callable[[Inheritance], int]) -> None:
        """Prepare; nothing is touched before `run`. `run_worker` runs in each forked child."""
        self._config: Final = config
        self._run_worker: Final = run_worker
        self._log: Final = get_logger()

    def run(self) -> int:
        """Run the daemon until it is told to stop; return its exit code.

        0 after a stop in order, 1 when workers kept crashing or somebody removed the write
        semaphore. Raises AlreadyRunning, StartError or ListenError if it cannot start. Main thread
        of a process without other threads only.
        """
        descriptors = _raise_descriptor_limit()
        with ExitStack() as undo:
            notifier = Notifier(os.environ)
            undo.callback(notifier.close)
            inbox = undo.enter_context(SignalInbox())
            passed = take_listen_fds(os.environ)
            try:
                estate = Estate.make(self._config, passed, partial(_wait_unless_stopped, inbox))
            except Interrupted as interrupted:
                self._log.info(SUPERVISOR_STOPPED, reason=str(interrupted))
                return 0
            undo.callback(self._log.info, SUPERVISOR_STOPPED)
            undo.callback(estate.close)
            self._log.info(
                SUPERVISOR_STARTED,
                version=__version__,
                workers=self._config.server.workers,
                threads=self._config.server.threads,
                runtime_dir=str(estate.runtime.path),
                descriptors=descriptors,
            )
            return _Loop(self._config, self._run_worker, estate, inbox, notifier).run()


class _Loop:
    """The loop and what it remembers between two turns. Owner: the main thread."""

    def __init__(
        self,
        config: Config,
        run_worker: Callable[[Inheritance], int],
        estate: Estate,
        inbox: SignalInbox,
        notifier: Notifier,
    ) -> None:
        self._server: Final = config.server
        self._estate: Final = estate
        self._inbox: Final = inbox
        self._notifier: Final = notifier
        self._log: Final = get_logger()
        self._workforce: Final = Workforce(config, estate, self._renounce, run_worker)
        self._children: Final = self._workforce.children
        self._addresses: Final = ", ".join(map(describe, estate.listeners.sockets))
        self._poll: Final = select.poll()
        self._poll.register(inbox.fileno(), select.POLLIN)
        self._poll.register(estate.news, select.POLLIN)
        self._stop: Stop | None = None
        self._is_announced = False
        self._next_sign_ns = 0  # of life, to systemd
        self._exit_code = 0

    def run(self) -> int:
        """Turn until the stop is over; return the exit code."""
        while not self._is_over():
            self._wait()
            for number in sorted(self._inbox.take()):
                self._hear(number)
            self._workforce.reap()
            self._workforce.read_news()
            self._announce_if_ready()
            if self._stop is None:
                self._workforce.fork_due()
                self._watch()
                self._give_up_if_exhausted()
            if self._stop is not None:
                self._workforce.press(self._stop)
            self._tell_systemd()
        return self._exit_code

    def _is_over(self) -> bool:
        if self._stop is None:
            return False
        pids = [child.pid for child in self._children.living()]
        if pids and self._stop.is_given_up(time.monotonic_ns()):
            self._log.error(WORKER_STUCK, pids=pids, meaning="left behind: SIGKILL is no help")
            return True
        return not pids

    def _wait(self) -> None:
        """Wait for a signal, news, or the next deadline; the one place where signals come in."""
        with self._inbox.delivered():
            self._poll.poll(self._timeout_ms())

    def _timeout_ms(self) -> int | None:
        if self._stop is None:
            deadline = self._workforce.next_deadline_ns()
        else:
            deadline = self._stop.next_check_ns()
        if self._notifier.watchdog_seconds is not None:
            deadline = min(deadline or self._next_sign_ns, self._next_sign_ns)
        if deadline is None:
            return None
        return max(0, math.ceil((deadline - time.monotonic_ns()) / 1_000_000))

    def _hear(self, number: signal.Signals) -> None:
        if number is signal.SIGCHLD:
            return  # it has ended the wait, and children are reaped in every turn
        if number not in STOP:
            self._log.info(SIGNAL_RECEIVED, signal=number.name, meaning="not handled")
        elif self._stop is None:
            self._begin_stop(number.name)
        else:
            self._log.info(SIGNAL_RECEIVED, signal=number.name, meaning="stop now")
            self._stop.hurry(time.monotonic_ns())

    def _begin_stop(self, reason: str) -> None:
        self._log.info(SUPERVISOR_STOPPING, reason=reason, workers=len(self._children.living()))
        self._notifier.stopping(f"stopping: {reason}")
        self._estate.listeners.close()
        self._children.stop()
        self._stop = Stop(self._server.stop_seconds, time.monotonic_ns())

    def _watch(self) -> None:
        """Let the workforce watch; without the write semaphore nobody can join or leave any more.

        It cannot be made anew under workers that live: they and their successors would not meet.
        """
        try:
            self._workforce.watch()
        except SemaphoreGone as error:
            self._give_up(f"the registry's {error}: somebody has removed it (ipcrm, RemoveIPC=)")

    def _give_up_if_exhausted(self) -> None:
        child = self._children.exhausted()
        if child is not None and self._stop is None:
            self._give_up(f"worker {child.p_id} has crashed {child.crashes} times in a row")

    def _give_up(self, reason: str) -> None:
        self._log.error(SUPERVISOR_DEGRADED, reason=reason, meaning="giving up")
        self._exit_code = 1
        self._begin_stop(reason)

    def _renounce(self) -> None:
        """Give up, in a child, what is the supervisor's alone: the lock first, signals last."""
        self._estate.runtime.close_in_child()
        self._notifier.close()
        self._inbox.reset_in_child()

    def _announce_if_ready(self) -> None:
        if self._is_announced or self._children.ready_count() < self._server.workers:
            return
        self._is_announced = True
        self._log.info(SUPERVISOR_READY, listen=self._addresses)
        self._notifier.ready(self._describe())

    def _tell_systemd(self) -> None:
        if self._stop is None:
            self._notifier.status(self._describe())
        period = self._notifier.watchdog_seconds
        now = time.monotonic_ns()
        if period is not None and now >= self._next_sign_ns:
            self._next_sign_ns = now + int(period * NANOSECONDS)
            self._notifier.watchdog()

    def _describe(self) -> str:
        ready = f"{self._children.ready_count()} of {self._server.workers} workers ready"
        crashed = [f"worker {c.p_id} crashed {c.crashes}x" for c in self._children if c.crashes]
        degraded = f"degraded: {', '.join(crashed)}; " if crashed else ""
        return f"{degraded}{ready}; {self._addresses}"


def _wait_unless_stopped(inbox: SignalInbox, seconds: float) -> bool:
    """Wait during the start; return False if the daemon was told to stop meanwhile."""
    with inbox.delivered():
        select.select([inbox], [], [], seconds)
    return not inbox.take() & STOP


def _raise_descriptor_limit() -> int:
    """Allow as many descriptors as the system lets us, for us and our workers; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
