"""What an operator is shown of workers and clients: read from shared memory and from what is kept.

Called by the supervisor's only thread, for `admin`. Takes no lock: what is shown may have changed
by the time it is read. Clients are made one by one, as somebody takes them; who comes or goes
meanwhile may be there or not.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.control import Client, Done, Worker
from prefork_chat.registry.table import Order, WorkerState
from prefork_chat.supervisor.children import NANOSECONDS, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_chat.control import Answer
    from prefork_chat.registry.table import WorkerReport
    from prefork_chat.supervisor.children import Child
    from prefork_chat.supervisor.estate import Estate
    from prefork_chat.supervisor.workforce import Workforce

_TOLD: Final = {
    Order.HAND_OVER: "handing-over",
    Order.STOP: "stopping",
    Order.DRAIN: "draining",
    Order.LEAVE: "leaving",
}


def workers(estate: Estate, workforce: Workforce) -> Iterator[Answer]:
    """Yield every worker, and how many they are."""
    rows = estate.registry.table.snapshot()
    now = time.monotonic_ns()
    count = 0
    for child in workforce.children:
        count += 1
        yield _worker(child, rows[child.p_id], now)
    yield Done(f"{count} worker{'' if count == 1 else 's'}")


def clients(estate: Estate) -> Iterator[Answer]:
    """Yield every client, by slot, and how many they are."""
    count = 0
    for held in estate.registry.sessions():
        count += 1
        generation, fd = estate.keeper.kept.get(held.slot, (0, 0))
        yield Client(
            slot=held.slot,
            generation=held.generation,
            p_id=held.p_id,
            t_id=held.t_id,
            name=held.name.decode("ascii"),
            address=_address(fd) if generation == held.generation else "",
        )
    yield Done(f"{count} client{'' if count == 1 else 's'}")


def _worker(child: Child, row: WorkerReport, now_ns: int) -> Worker:
    return Worker(
        p_id=child.p_id,
        generation=child.generation,
        pid=child.pid,
        state=_state(child, row),
        clients=sum(loop.clients for loop in row.loops),
        accepted=row.accepted,
        lines=sum(loop.lines for loop in row.loops),
        delivered=sum(loop.delivered for loop in row.loops),
        refused=sum(loop.refused for loop in row.loops),
        crashes=child.crashes,
        up_seconds=round((now_ns - child.forked_ns) / NANOSECONDS, 3) if child.pid else 0.0,
    )


def _state(child: Child, row: WorkerReport) -> str:
    """Return what the worker is about, in one word: what it was told counts most."""
    if child.phase is Phase.READY and child.told is not None:
        return _TOLD[child.told]
    if child.phase is Phase.READY and row.state is WorkerState.RETIRING:
        return "retiring"
    return child.phase.value


def _address(fd: int) -> str:
    """Return whom a kept socket is connected to: HOST:PORT, [IPV6]:PORT or `unix`."""
    connection = socket.socket(fileno=fd)
    try:
        if connection.family == socket.AF_UNIX:
            return "unix"
        host, port = connection.getpeername()[:2]
    except OSError:
        return ""  # ENOTCONN: the client is gone, and its worker is about to see it
    finally:
        connection.detach()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
