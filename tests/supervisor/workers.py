"""Small workers for a real supervisor: each does one thing that a worker may do, well or badly.

They know no chat. What they want to tell a test they log: the test reads the daemon's log.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.log import get_logger
from prefork_chat.registry.ipc import SemaphoreGone
from prefork_chat.registry.table import HEARTBEAT, ROUTER_HEARTBEAT, STATE, WorkerState, loop_offset

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.inheritance import Inheritance

BEAT_SECONDS: Final = 0.1


def beat(inheritance: Inheritance) -> None:
    row = inheritance.table.row(inheritance.p_id)
    now = time.monotonic_ns()
    row[ROUTER_HEARTBEAT] = now
    for t_id in range(inheritance.table.threads):
        row[loop_offset(t_id) + HEARTBEAT] = now


def become_ready(inheritance: Inheritance) -> None:
    beat(inheritance)
    inheritance.table.row(inheritance.p_id)[STATE] = WorkerState.READY
    os.eventfd_write(inheritance.news, 1)


class Ears:
    """SIGTERM and the supervisor's death, to be waited for."""

    def __init__(self, inheritance: Inheritance) -> None:
        woken, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._ends = (woken, wakeup)
        self._pidfd = inheritance.supervisor_pidfd
        self._poll = select.poll()
        self._poll.register(woken, select.POLLIN)
        self._poll.register(self._pidfd, select.POLLIN)

    def wait(self, seconds: float) -> str:
        fds = [fd for fd, _ in self._poll.poll(seconds * 1000)]
        if self._pidfd in fds:
            return "orphaned"
        return "told" if fds else ""


def serve(inheritance: Inheritance, every_turn: Callable[[], None] = lambda: None) -> int:
    ears = Ears(inheritance)
    become_ready(inheritance)
    while not (heard := ears.wait(BEAT_SECONDS)):
        beat(inheritance)
        every_turn()
    return 0 if heard == "told" else 1


def obey(inheritance: Inheritance) -> int:
    """Serve until told to stop."""
    return serve(inheritance)


def chatter(inheritance: Inheritance) -> int:
    """Log as hard as one can, for the supervisor to log in between."""
    log = get_logger(p_id=inheritance.p_id, generation=inheritance.generation)
    ears = Ears(inheritance)
    become_ready(inheritance)
    while not ears.wait(0):
        for _ in range(5):
            log.info("worker.chattered", filler="x" * 100)
        beat(inheritance)
        time.sleep(0.005)  # the log's reader must keep up, or lines are dropped
    return 0


def crash(inheritance: Inheritance) -> int:
    """End at once, as after a bug."""
    return 3


def raise_an_error(inheritance: Inheritance) -> int:
    raise RuntimeError("a bug of the worker")


def exit_0_at_once(inheritance: Inheritance) -> int:
    return 0


def retire(inheritance: Inheritance) -> int:
    """Serve for three beats, then leave in order, as with connections_per_process."""
    become_ready(inheritance)
    time.sleep(0.05)
    return 0


def retire_unseen(inheritance: Inheritance) -> int:
    """Have been ready and retired before the supervisor comes to look."""
    inheritance.table.row(inheritance.p_id)[STATE] = WorkerState.STOPPING
    return 0


def hang_in_start_up(inheritance: Inheritance) -> int:
    """Never become ready."""
    while True:
        time.sleep(3600)


def lose_heart(inheritance: Inheritance) -> int:
    """Become ready, then stand still; the first of each p_id only."""
    if inheritance.generation > 1:
        return serve(inheritance)
    become_ready(inheritance)
    return hang_in_start_up(inheritance)


def stop_own_process(inheritance: Inheritance) -> int:
    """Become ready, then SIGSTOP oneself; the first of p_id 0 only."""
    if (inheritance.p_id, inheritance.generation) == (0, 1):
        become_ready(inheritance)
        os.kill(os.getpid(), signal.SIGSTOP)
    return serve(inheritance)


def ignore_sigterm(inheritance: Inheritance) -> int:
    """Live on whatever one is told; die with the supervisor only."""
    poll = select.poll()
    poll.register(inheritance.supervisor_pidfd, select.POLLIN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    become_ready(inheritance)
    while not poll.poll(BEAT_SECONDS * 1000):
        beat(inheritance)
    return 1


def orphan_a_process(inheritance: Inheritance) -> int:
    """Leave an orphan behind that PID 1 inherits and that then exits 3."""
    if (inheritance.p_id, inheritance.generation) == (0, 1):
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                while os.getppid() != 1:
                    time.sleep(0.001)
                get_logger().info("orphan.adopted")
                os._exit(3)
            os._exit(0)
        os.waitpid(child, 0)
    return serve(inheritance)


def wait_for_accept_semaphore(inheritance: Inheritance) -> int:
    """Hold the accept semaphore, or wait for it, until it is taken away."""
    become_ready(inheritance)
    log = get_logger(p_id=inheritance.p_id)
    try:
        with inheritance.accept_semaphore:
            while not inheritance.accept_semaphore.try_acquire():
                beat(inheritance)
                time.sleep(BEAT_SECONDS)
    except SemaphoreGone:
        log.info("semaphore.gone")
        return 1
    return 0


def greet(inheritance: Inheritance) -> int:
    """Accept connections and say which process serves."""

    def accept_all() -> None:
        for listener in inheritance.listeners:
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                continue
            client.sendall(b"%d\n" % os.getpid())
            client.close()

    return serve(inheritance, accept_all)


def linger(inheritance: Inheritance) -> int:
    """Serve, and need a while to notice that the supervisor is gone."""
    code = serve(inheritance)
    if code:
        time.sleep(1.5)
    return code


def write_journal(inheritance: Inheritance) -> int:
    """Size the journal and write the generation into it; say what is there and leave."""
    log = get_logger(p_id=inheritance.p_id, generation=inheritance.generation)
    log.info("journal.read", text=[os.pread(fd, 100, 0).decode() for fd in inheritance.journals])
    for t_id, fd in enumerate(inheritance.journals):
        os.ftruncate(fd, 100)
        os.pwrite(fd, f"{inheritance.p_id}.{t_id}.{inheritance.generation}".encode().ljust(100), 0)
    become_ready(inheritance)
    return 0


def fill_registry(inheritance: Inheritance) -> int:
    """Claim every slot, for nobody."""
    for _ in range(inheritance.registry.capacity):
        inheritance.registry.claim(inheritance.p_id, 0)
    return serve(inheritance)


def leave_mail(inheritance: Inheritance) -> int:
    """Serve, and leave a word for the first attendant at the very end."""
    code = serve(inheritance)
    inlet = inheritance.pairs.processes[inheritance.table.workers].inlet
    inlet.send(f"from {inheritance.p_id}".encode())
    return code
