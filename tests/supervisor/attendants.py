"""Small attendants for a real supervisor: each does one thing that an attendant may do.

What they want to tell a test they log. `ATTENDANT` in the environment names the function that is
the historian's.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.log import get_logger
from prefork_chat.registry.table import (
    HEARTBEAT,
    ORDER,
    ROUTER_HEARTBEAT,
    STATE,
    Order,
    WorkerState,
    loop_offset,
)
from prefork_chat.supervisor.attendants import Duty

if TYPE_CHECKING:
    from prefork_chat.inheritance import Attendance

VARIABLE: Final = "ATTENDANT"
BEAT_SECONDS: Final = 0.1


def duties() -> dict[str, Duty]:
    """Return the duties that the environment asks for."""
    name = os.environ.get(VARIABLE)
    if name is None:
        return {}
    return {"historian": Duty(globals()[name], lambda config: config.history.enabled)}


def beat(attendance: Attendance) -> None:
    now = time.monotonic_ns()
    attendance.row[ROUTER_HEARTBEAT] = now
    attendance.row[loop_offset(0) + HEARTBEAT] = now


def become_ready(attendance: Attendance) -> None:
    beat(attendance)
    attendance.row[STATE] = WorkerState.READY
    os.eventfd_write(attendance.news, 1)


def attend(attendance: Attendance) -> int:
    """Serve until told to end; say what was told, what has come, and what is open."""
    log = get_logger()
    woken, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(attendance.supervisor_pidfd, select.POLLIN)
    become_ready(attendance)
    generation = os.pread(attendance.journal, 20, 0).decode()
    os.pwrite(attendance.journal, b"%d" % attendance.generation, 0)
    log.info("attendant.began", predecessor=generation, open=len(os.listdir("/proc/self/fd")))
    while not (heard := [fd for fd, _ in poll.poll(BEAT_SECONDS * 1000)]):
        beat(attendance)
    if attendance.supervisor_pidfd in heard:
        return 1
    order = Order(attendance.row[ORDER])
    log.info("attendant.ended", order=order.name, mail=take_all(attendance))
    return 0


def take_all(attendance: Attendance) -> list[str]:
    outlet = attendance.pairs.processes[attendance.p_id].outlet
    taken = []
    while True:
        try:
            taken.append(outlet.recv(1000).decode())
        except BlockingIOError:
            return taken


def crash(attendance: Attendance) -> int:
    return 3


def lose_heart(attendance: Attendance) -> int:
    """Stand still; the first one only."""
    if attendance.generation > 1:
        return attend(attendance)
    become_ready(attendance)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)


def be_deaf(attendance: Attendance) -> int:
    """Beat, and do nothing else whatever one is told; the first one only."""
    if attendance.generation > 1:
        return attend(attendance)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    become_ready(attendance)
    while True:
        time.sleep(BEAT_SECONDS)
        beat(attendance)
