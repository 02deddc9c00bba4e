"""The supervisor: starts the daemon, goes round its one loop, and takes everything away at the end.

Runs in the main, and only, thread of the process that was started; called by the command. Once per
turn of the loop, in this order:

    signals → reap → news → mail → requests → carry on with what is under way → answers → systemd
    → wait

What workers say to the keeper is heard within the wait, without such a turn: that is one datagram
for each client that comes and one for each that goes. What an operator asks for is `operations`',
what is done with processes is `workforce`'s.
Signals come in during the wait and nowhere else (`signals`). Fails by what `Estate.make` raises;
after that it goes on until it is told to stop, until a worker has crashed `max_crashes` times in a
row, or until the write semaphore is gone.
"""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat import __version__
from prefork_chat.errors import StartError
from prefork_chat.log import (
    LOCAL_FAILED,
    SUPERVISOR_READY,
    SUPERVISOR_RESUMED,
    SUPERVISOR_STARTED,
    SUPERVISOR_STOPPED,
    get_logger,
)
from prefork_chat.supervisor.admin import Admin
from prefork_chat.supervisor.attendants import Attendants
from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.configuration import Configuration
from prefork_chat.supervisor.deed import read_child
from prefork_chat.supervisor.estate import Estate
from prefork_chat.supervisor.hearing import hear
from prefork_chat.supervisor.listeners import Interrupted, describe
from prefork_chat.supervisor.notify import Notifier, take_listen_fds
from prefork_chat.supervisor.operations import Operations
from prefork_chat.supervisor.reloading import adopt, read_fixed
from prefork_chat.supervisor.reviving import Reviving, revive
from prefork_chat.supervisor.signals import STOP, SignalInbox
from prefork_chat.supervisor.sources import Making, Resuming, peer_name
from prefork_chat.supervisor.store import DEED, Store, is_stored
from prefork_chat.supervisor.upgrading import become, take_handover
from prefork_chat.supervisor.workforce import Workforce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefork_chat.config import Config
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.registry.registry import Registry
    from prefork_chat.supervisor.attendants import Duty
    from prefork_chat.supervisor.notify import PassedFd
    from prefork_chat.supervisor.reviving import Revival
    from prefork_chat.supervisor.sources import Source
    from prefork_chat.supervisor.upgrading import Handover


class Supervisor:
    """The daemon's parent process, for one run. Owner: the main thread."""

    def __init__(
        self,
        config: Config,
        run_worker: Callable[[Inheritance], int],
        load: Callable[[], Config] | None = None,
        furnish: Callable[[Config, Registry], None] | None = None,
        duties: Mapping[str, Duty] | None = None,
    ) -> None:
        """Prepare; nothing is touched before `run`. `run_worker` runs in each forked child.

        `duties` are those of the attendants, by name (`inheritance.ATTENDANTS`).
        `load` reads the configuration anew and raises ConfigError; None: it is always the same.
        `furnish` puts into the registry what must be there before anybody joins; it runs before the
        first fork, also in a registry that was handed on, and must not raise.
        """
        self._config = config
        self._load: Final = load or (lambda: config)
        self._run_worker: Final = run_worker
        self._furnish: Final = furnish or (lambda _config, _registry: None)
        self._duties: Final = duties or {}
        self._log: Final = get_logger()

    def run(self) -> int:
        """Run the daemon until it is told to stop; return its exit code.

        0 after a stop in order, 1 when workers kept crashing or somebody removed the write
        semaphore. If an upgrade has brought us here, go on with the daemon that runs already, or
        only see whether we could. Raises AlreadyRunning, StartError, ListenError or UpgradeError.
        Main thread of a process without other threads.
        """
        handover = take_handover(os.environ)
        if handover is not None:
            running = read_fixed(handover.deed.fixed)
            self._config, _ = adopt(running, self._config, handover.deed.places)
            if handover.is_trial:
                return 0
        descriptors = _raise_descriptor_limit()
        with ExitStack() as undo:
            notifier = Notifier(os.environ)
            undo.callback(notifier.close)
            passed = take_listen_fds(os.environ)
            stored = [each for each in passed if is_stored(each)]
            revival = None if handover else revive(stored, self._config)
            if revival is not None:
                self._config = revival.config
            store = Store(notifier, self._config.server.fd_store_max)
            undo.callback(store.close)
            if revival is not None:
                store.resume(revival.deed_fd, revival.stored)
            else:
                store.remove(each.name for each in stored)
            listening = [each for each in passed if not is_stored(each)]
            inbox = undo.enter_context(SignalInbox())
            try:
                estate = Estate.put_up(
                    self._source(handover, revival, listening, inbox),
                    self._config.server.max_clients,
                    descriptors,
                    store,
                )
            except Interrupted as interrupted:
                self._log.info(SUPERVISOR_STOPPED, reason=str(interrupted))
                return 0
            undo.callback(lambda: self._log.info(SUPERVISOR_STOPPED))
            undo.callback(estate.close)
            self._put_up_local(estate, is_resumed=handover is not None)
            self._log.info(
                SUPERVISOR_STARTED if handover is None and revival is None else SUPERVISOR_RESUMED,
                version=__version__,
                workers=self._config.server.workers,
                threads=self._config.server.threads,
                runtime_dir=str(estate.runtime.path),
                descriptors=descriptors,
            )
            self._furnish(self._config, estate.registry)
            loop = _Loop(
                self._config,
                self._load,
                self._run_worker,
                self._duties,
                estate,
                inbox,
                notifier,
                store,
            )
            undo.callback(loop.close)
            if handover is not None:
                loop.resume(handover)
            elif revival is not None:
                loop.revive()
            loop.store_all()
            return loop.run()

    def _put_up_local(self, estate: Estate, *, is_resumed: bool) -> None:
        """Make what other programs find of us; a daemon that runs already goes on without."""
        try:
            estate.local.put_up(self._config)
        except StartError as error:
            if not is_resumed:
                raise
            self._log.error(LOCAL_FAILED, reason=str(error))

    def _source(
        self,
        handover: Handover | None,
        revival: Revival | None,
        passed: Sequence[PassedFd],
        inbox: SignalInbox,
    ) -> Source:
        if handover is not None:
            return Resuming(handover.deed, handover.descriptors)
        wait = partial(_wait_unless_stopped, inbox)
        if revival is None:
            return Making(self._config, passed, wait)
        for each in passed:
            os.close(each.fd)  # those that are stored are the same
        return Reviving(revival, wait)


class _Loop:
    """The loop and what it remembers between two turns. Owner: the main thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - what `run` has made, and nobody else calls it
        self,
        config: Config,
        load: Callable[[], Config],
        run_worker: Callable[[Inheritance], int],
        duties: Mapping[str, Duty],
        estate: Estate,
        inbox: SignalInbox,
        notifier: Notifier,
        store: Store,
    ) -> None:
        self._store: Final = store
        self._estate: Final = estate
        self._inbox: Final = inbox
        self._notifier: Final = notifier
        self._log: Final = get_logger()
        self._workforce: Final = Workforce(config, estate, self._renounce, run_worker)
        self._attendants: Final = Attendants(config, estate, self._renounce, duties)
        configuration = Configuration(config, load, estate.local)
        self._operations: Final = Operations(
            configuration, estate, self._workforce, self._attendants, notifier
        )
        self._admin: Final = Admin(estate, self._workforce, configuration, self._operations)
        self._addresses: Final = ", ".join(map(describe, estate.listeners.sockets))
        self._poll: Final = select.poll()
        self._poll.register(inbox.fileno(), select.POLLIN)
        self._poll.register(estate.news, select.POLLIN)
        self._keeper: Final = estate.keeper
        self._only_keeper: Final = [(estate.keeper.fileno(), select.POLLIN)]
        self._poll.register(estate.keeper.fileno(), select.POLLIN)
        self._poll.register(self._admin.fileno(), select.POLLIN)
        self._poll.register(estate.mail.fileno(), select.POLLIN)
        self._is_announced = False
        self._next_sign_ns = 0  # of life, to systemd

    def run(self) -> int:
        """Turn until the end of the daemon; return the exit code."""
        while True:
            for number in sorted(self._inbox.take() - {signal.SIGCHLD}):
                hear(self._operations, number)
            for pid, status in self._workforce.reap():
                if not self._attendants.bury(pid, status):
                    self._operations.bury(pid, status)
            self._workforce.read_news()
            self._attendants.read_news()
            self._workforce.recall()
            self._announce_if_ready()
            self._admin.hear()
            self._operations.advance()
            self._admin.answer()
            self._tell_systemd()
            if self._operations.is_tried:
                self._become_next()
            if self._operations.is_over():
                return self._operations.exit_code
            self._wait()

    def resume(self, handover: Handover) -> None:
        """Go on where the supervisor before us, in this process, has become this program."""
        deed = handover.deed
        self._workforce.resume(map(read_child, deed.children))
        self._attendants.resume(deed.attendants)
        round_ = self._operations.resume(deed.begun_ns)
        peers = [handover.descriptors[peer_name(number)] for number in range(len(deed.peers))]
        self._admin.resume(zip(peers, deed.peers, strict=True), round_)
        self._is_announced = deed.is_announced
        if DEED in handover.descriptors:
            self._store.resume(handover.descriptors[DEED], deed.stored)

    def revive(self) -> None:
        """Go on where a supervisor was killed: all its children are dead."""
        self._workforce.revive()
        self._attendants.revive()

    def store_all(self) -> None:
        """Have systemd hold what it does not hold yet."""
        if self._store.deed_fd is None:
            self._store.begin(self._operations.deed(), self._estate.lasting())
        self._store.match(self._keeper.kept)
        self._store.flush()

    def _become_next(self) -> None:
        """Become the program that has been tried; if that fails, go on as if nothing had been."""
        self._keeper.drain()
        peers = self._admin.hand_on()
        deed = msgspec.structs.replace(
            self._operations.deed(),
            is_announced=self._is_announced,
            peers=[question for _, question in peers],
            stored=self._store.names,
        )
        descriptors = self._estate.descriptors()
        descriptors |= {peer_name(number): fd for number, (fd, _) in enumerate(peers)}
        if self._store.deed_fd is not None:
            descriptors[DEED] = self._store.deed_fd
        try:
            become(deed, descriptors, self._notifier.variables)
        except OSError as error:
            self._operations.reject_upgrade(f"{sys.executable}: {error.strerror}")

    def close(self) -> None:
        """Hang up on whoever waits for the end of the daemon."""
        self._admin.close()

    def _wait(self) -> None:
        """Wait for a signal, news, or the next deadline; the one place where signals come in.

        Meanwhile the keeper hears what workers say.
        """
        deadline = self._next_deadline_ns()
        with self._inbox.delivered():
            while self._poll.poll(_milliseconds_until(deadline)) == self._only_keeper:
                self._keeper.drain()
                self._store.flush()
                if self._keeper.has_filled or _is_past(deadline):
                    break
        # Also when something else is always ready: it must not keep the keeper from hearing.
        self._keeper.drain()
        self._keeper.report()
        self._store.flush()
        self._store.report()

    def _next_deadline_ns(self) -> int | None:
        deadline = self._operations.next_deadline_ns()
        if self._notifier.watchdog_seconds is not None:
            deadline = min(deadline or self._next_sign_ns, self._next_sign_ns)
        flush = self._store.next_flush_ns()
        if flush is not None:
            deadline = min(deadline or flush, flush)
        return deadline

    def _renounce(self) -> None:
        """Give up, in a child, what is the supervisor's alone: the lock first, signals last."""
        self._estate.runtime.close_in_child()
        self._keeper.close_in_child()
        self._estate.mail.close()
        self._admin.close_in_child()
        self._estate.local.close()
        self._store.close_in_child()
        self._notifier.close()
        self._inbox.reset_in_child()

    def _announce_if_ready(self) -> None:
        children = self._workforce.children
        if self._is_announced or children.ready_count() < children.wanted:
            return
        self._is_announced = True
        self._log.info(SUPERVISOR_READY, listen=self._addresses)
        self._notifier.ready(self._describe())

    def _tell_systemd(self) -> None:
        if not self._operations.is_stopping:
            self._notifier.status(self._describe())
        period = self._notifier.watchdog_seconds
        now = time.monotonic_ns()
        if period is not None and now >= self._next_sign_ns:
            self._next_sign_ns = now + int(period * NANOSECONDS)
            self._notifier.watchdog()

    def _describe(self) -> str:
        return f"{self._operations.describe()}; {self._addresses}"


def _wait_unless_stopped(inbox: SignalInbox, seconds: float) -> bool:
    """Wait during the start; return False if the daemon was told to stop meanwhile."""
    with inbox.delivered():
        select.select([inbox], [], [], seconds)
    return not inbox.take() & STOP


def _milliseconds_until(deadline_ns: int | None) -> int | None:
    """Return the timeout for a poll that is to end at the deadline; None if there is none."""
    if deadline_ns is None:
        return None
    return max(0, math.ceil((deadline_ns - time.monotonic_ns()) / 1_000_000))


def _is_past(deadline_ns: int | None) -> bool:
    return deadline_ns is not None and time.monotonic_ns() >= deadline_ns


def _raise_descriptor_limit() -> int:
    """Allow as many descriptors as the system lets us, for us and our workers; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
