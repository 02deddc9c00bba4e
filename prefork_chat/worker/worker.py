"""A worker process from its fork to its end.

`run_worker` is called in the child, once, and its result is the exit code: 0 after an orderly stop
or retirement. T threads have the lead over router and loops, one after the other; one thread
accepts; the main thread obeys. Signals reach the main thread only. SIGTERM means: do what the order
in your row says; whoever else sends it only makes a worker hand its clients over to its successor.
A worker also ends when it has accepted its share of clients, at once when the supervisor is gone,
and at once when any of its threads fails: a worker that has lost a part is worth less than its
successor.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import random
import select
import signal
import socket
import threading
from time import monotonic, monotonic_ns
from typing import TYPE_CHECKING

from prefork_chat import keeping, log
from prefork_chat.registry import table
from prefork_chat.registry.table import Order, WorkerState
from prefork_chat.worker import progress
from prefork_chat.worker.acceptor import Acceptor, choose_loops, clients_that_fill
from prefork_chat.worker.backroom import Backroom
from prefork_chat.worker.lead import Lead
from prefork_chat.worker.loop import Loop, beat_seconds
from prefork_chat.worker.router import Router

if TYPE_CHECKING:
    from types import FrameType

    from prefork_chat.inheritance import Inheritance
    from prefork_chat.registry.slots import Held
    from prefork_chat.worker.lead import Station

EXIT_ORPHANED = 1
EXIT_FAILED = 70
"""sysexits(3) EX_SOFTWARE: a thread of ours raised."""

WATCH_SECONDS = 0.05
"""How often the main thread looks whether the loops are deserted, once they are to be."""

MOST_GIVEN = 64
"""Sessions taken out of the nursery in one go."""

STOP_SHARE = 0.8
"""A worker uses this share of `stop_seconds` to say good-bye, and has the rest to end by itself."""


def run_worker(inheritance: Inheritance) -> int:
    """Serve as worker `p_id` until stopped; returns the exit code of the process."""
    row = inheritance.table.row(inheritance.p_id)
    row[table.PID] = os.getpid()
    faulthandler.enable()
    if inheritance.config.server.pin_cpu:
        _pin(inheritance.p_id)
    return _Worker(inheritance).run()


def _pin(p_id: int) -> None:
    """Bind this process to one of the CPUs that it may use."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[p_id % len(cpus)]})


class _Worker:
    """The threads of a worker and its main loop. Owner: the main thread."""

    def __init__(self, inheritance: Inheritance) -> None:
        self._inheritance = inheritance
        self._row = inheritance.table.row(inheritance.p_id)
        self._log = log.get_logger(p_id=inheritance.p_id, generation=inheritance.generation)
        server = inheritance.config.server
        backroom = Backroom.of(inheritance)
        threads = range(server.threads)
        self._loops = [Loop(inheritance, t_id, backroom, self._wake) for t_id in threads]
        self._acceptor = Acceptor(inheritance, self._loops, random.Random(), self._wake)
        self._beat_seconds = beat_seconds(server.watchdog_seconds)
        self._poller = select.epoll()
        pairs = inheritance.pairs
        self._router = Router(
            pairs.processes[inheritance.p_id],
            pairs.loops[inheritance.p_id],
            self._loops,
            self._beat_seconds,
            is_exact=server.durability == "exact",
        )
        self._is_told_to_end = False
        self._is_ending = False
        self._is_accepting = True
        self._is_to_be_deserted = False
        self._is_handing_over = False
        self._woken, self._waker = socket.socketpair()

    def run(self) -> int:
        self._listen_to_signals()
        own = self._adopt()
        self._start_threads()
        self._row[table.STATE] = WorkerState.READY
        os.eventfd_write(self._inheritance.news, 1)
        self._close_all_but(own)
        self._poller.register(self._inheritance.supervisor_pidfd, select.EPOLLIN)
        self._poller.register(self._woken, select.EPOLLIN)
        self._poller.register(self._inheritance.nursery, select.EPOLLIN)
        while not self._is_over():
            for fd, _ in self._poller.poll(self._sleep_seconds()):
                if fd == self._inheritance.supervisor_pidfd:
                    return EXIT_ORPHANED
                if fd == self._woken.fileno():
                    self._woken.recv(64)
                else:
                    self._foster()
            if not self._router.is_late:
                self._row[table.ROUTER_HEARTBEAT] = monotonic_ns()
            self._obey()
        self._log.info(log.WORKER_STOPPED)
        return 0

    def _adopt(self) -> set[int]:
        """Take over the sessions of the predecessor; return their slots.

        Without the garbage collector, which would look at ten thousand new objects again and again
        and find nothing: a third of the time. Nor does it look at them later.
        """
        inheritance = self._inheritance
        started_ns = monotonic_ns()
        gc.disable()
        p_id = inheritance.p_id
        mine = [
            held
            for held in inheritance.registry.sessions()
            if held.p_id == p_id
            and (not held.progress & progress.RELEASED or self._take_over(held))
        ]
        adopted = [
            loop.adopt([held for held in mine if held.t_id == t_id])
            for t_id, loop in enumerate(self._loops)
        ]
        gc.freeze()
        gc.enable()
        if mine:
            self._log.info(
                log.SESSIONS_ADOPTED,
                clients=sum(count for count, _ in adopted),
                missing=sum(count for _, count in adopted),
                milliseconds=round((monotonic_ns() - started_ns) / 1e6, 1),
            )
        return {held.slot for held in mine}

    def _close_all_but(self, own: set[int]) -> None:
        """Close the kept sockets of other workers' clients, now that ours are served again."""
        for slot, (_, fd) in self._inheritance.kept.items():
            if slot not in own:
                os.close(fd)

    def _take_over(self, held: Held) -> bool:
        """Have a session again that the predecessor released; False if another worker has it."""
        take_over = self._inheritance.registry.take_over
        here = (held.p_id, held.t_id)
        return take_over(held.slot, held.generation, *here, progress.RELEASED) is not None

    def _foster(self) -> None:
        """Give the sessions that other workers have released to us to our loops."""
        for _ in range(MOST_GIVEN):
            try:
                given = keeping.take(self._inheritance.nursery)
            except BlockingIOError:
                return
            if given.fd != keeping.NO_FD:  # else whoever gave it takes it back
                loads = [loop.load for loop in self._loops]
                filled = clients_that_fill(self._inheritance.config.server)
                (t_id,) = choose_loops(loads, 1, filled)
                self._loops[t_id].foster(given)

    def _sleep_seconds(self) -> float:
        if self._is_to_be_deserted:
            return min(WATCH_SECONDS, self._beat_seconds)
        return self._beat_seconds

    def _obey(self) -> None:
        """Begin to end when we are told to, or have accepted all that we were to accept."""
        if self._is_told_to_end:
            self._is_told_to_end = False
            order = Order(self._row[table.ORDER])
        elif self._acceptor.is_retiring and not self._is_ending:
            order = Order.HAND_OVER
        else:
            return
        self._is_ending = True
        self._acceptor.close()
        self._row[table.STATE] = WorkerState.STOPPING
        match order:
            case Order.STOP:
                share = self._inheritance.config.server.stop_seconds * STOP_SHARE
                for loop in self._loops:
                    loop.stop(monotonic() + share)
            case Order.DRAIN:
                self._is_to_be_deserted = True
            case Order.LEAVE:
                self._is_to_be_deserted = True
                for loop in self._loops:
                    loop.leave()
            case Order.HAND_OVER:
                self._is_handing_over = True

    def _is_over(self) -> bool:
        """Say whether nothing is left to do; takes the last steps there."""
        if not self._is_ending or not self._acceptor.is_done:
            return False
        if self._is_accepting:
            self._is_accepting = False
            for loop in self._loops:
                loop.welcome_nobody()
        if self._is_to_be_deserted and all(loop.is_deserted for loop in self._loops):
            self._is_to_be_deserted = False
            for loop in self._loops:
                loop.end_deserted()
        if self._is_handing_over:
            for loop in self._loops:
                loop.hand_over()
            self._is_handing_over = False
        return all(loop.is_over for loop in self._loops)

    def _listen_to_signals(self) -> None:
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note_end)

    def _wake(self) -> None:
        """Make the main thread look around (any thread)."""
        with contextlib.suppress(BlockingIOError):  # it has been told already
            self._waker.send(b"\0")

    def _note_end(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told_to_end = True

    def _start_threads(self) -> None:
        """Start the threads with all signals blocked; the main thread takes its mask back."""
        threading.excepthook = self._fail
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        # An orderly end waits for the loops, for no thread: one may be blocked in the semaphore,
        # the router's own may sleep for a beat.
        for index, (lead, number) in enumerate(self._leads()):
            name = f"lead-{index}"
            threading.Thread(target=lead.follow, args=(number,), name=name, daemon=True).start()
        threading.Thread(target=self._acceptor.run, name="acceptor", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _leads(self) -> list[tuple[Lead, int]]:
        """Say for each thread which lead it follows, and its number there."""
        stations: list[Station] = [self._router, *self._loops]
        if self._inheritance.config.server.turn_lock:
            shared = Lead(stations, len(self._loops))
            return [(shared, number) for number in range(len(self._loops))]
        return [(Lead([station], 1), 0) for station in stations]

    def _fail(self, failure: threading.ExceptHookArgs) -> None:
        """End the process: its successor does better than what is left of it."""
        name = failure.thread.name if failure.thread else "?"
        self._log.error(log.WORKER_FAILED, thread=name, exc_info=failure.exc_value)
        os._exit(EXIT_FAILED)
