"""A small worker that does with its clients what a real one does, but for chat.

Each line of a client comes back with `P_ID.GENERATION ` before it. Sessions have slots, their
sockets are kept, and whoever takes the place of a worker adopts them. Client sockets are read
without a buffer, by whole lines, so a line that has been answered has been consumed and no other
has. It obeys all orders; single-threaded, and one loop only.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING

from prefork_chat import keeping
from prefork_chat.keeping import Keep, LetGo
from prefork_chat.log import get_logger
from prefork_chat.registry import table
from prefork_chat.registry.table import Order, WorkerState
from tests.supervisor.workers import BEAT_SECONDS, beat

if TYPE_CHECKING:
    from prefork_chat.inheritance import Inheritance

LINE_BYTES = 4096


UNLUCKY = 13
"""A number of `limits.burst_lines` with which it crashes: no check of a file finds that."""


def echo(inheritance: Inheritance) -> int:
    """Serve until told how to end."""
    if inheritance.config.limits.burst_lines == UNLUCKY:
        return 3
    return Echo(inheritance).run()


class Echo:
    def __init__(self, inheritance: Inheritance) -> None:
        self._estate = inheritance
        self._registry = inheritance.registry
        self._p_id = inheritance.p_id
        self._log = get_logger(p_id=inheritance.p_id, generation=inheritance.generation)
        self._row = inheritance.table.row(inheritance.p_id)
        self._clients: dict[int, tuple[int, int, socket.socket]] = {}  # by fd: slot, generation
        self._is_told = False
        self._poll = select.poll()

    def run(self) -> int:
        woken, wakeup = socket.socketpair()
        wakeup.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno())
        signal.signal(signal.SIGTERM, self._note)
        self._adopt()
        listeners = {listener.fileno(): listener for listener in self._estate.listeners}
        orphaned = self._estate.supervisor_pidfd
        nursery = self._estate.nursery
        for fd in (*listeners, orphaned, nursery.fileno(), woken.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._row[table.PID] = os.getpid()
        self._row[table.STATE] = WorkerState.READY
        os.eventfd_write(self._estate.news, 1)
        while True:
            for fd, _ in self._poll.poll(BEAT_SECONDS * 1000):
                if fd == orphaned:
                    return 1
                if fd in listeners:
                    self._accept(listeners[fd])
                elif fd == nursery.fileno():
                    self._take()
                elif fd in self._clients:
                    self._serve(fd)
                else:
                    woken.recv(100)
            beat(self._estate)
            self._row[table.loop_offset(0) + table.CLIENTS] = len(self._clients)
            if self._is_told and self._end(listeners):
                return 0

    def _note(self, *_: object) -> None:
        self._is_told = True

    def _end(self, listeners: dict[int, socket.socket]) -> bool:
        for fd, listener in listeners.items():
            self._poll.unregister(fd)
            listener.close()
        listeners.clear()
        return self._obey(Order(self._row[table.ORDER]))

    def _obey(self, order: Order) -> bool:
        """Do what is ordered; return True once that is done."""
        match order:
            case Order.HAND_OVER:
                return True
            case Order.STOP:
                for _, _, client in self._clients.values():
                    client.sendall(b"stop\n")
            case Order.LEAVE:
                for fd, (slot, generation, _) in list(self._clients.items()):
                    heirs = [
                        p_id
                        for p_id in range(self._estate.table.workers)
                        if p_id != self._p_id
                        and self._estate.table.row(p_id)[table.STATE] == WorkerState.READY
                    ]
                    if not heirs:
                        return False
                    self._registry.move(slot, generation, heirs[0], 0)
                    keeping.give(self._estate.keeper, slot, generation, heirs[0])
                    self._forget(fd)
            case Order.DRAIN:
                return not self._clients
        return True

    def _adopt(self) -> None:
        kept = self._estate.kept
        for held in self._registry.sessions():
            if held.p_id == self._p_id:
                if kept.get(held.slot, (0, 0))[0] == held.generation:
                    self._welcome(held.slot, held.generation, kept[held.slot][1])
                else:
                    self._registry.free(held.slot, held.generation)
        own = {client.fileno() for _, _, client in self._clients.values()}
        for _, fd in kept.values():
            if fd not in own:
                os.close(fd)
        self._log.info("clients.adopted", count=len(self._clients))

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except BlockingIOError:
            return
        slot, generation = self._registry.claim(self._p_id, 0)
        keeping.keep(self._estate.keeper, Keep(slot, generation, client.fileno()))
        self._welcome(slot, generation, client.detach())

    def _take(self) -> None:
        slot, generation, fd = keeping.take(self._estate.nursery)
        is_known = any(entry[:2] == (slot, generation) for entry in self._clients.values())
        if self._registry.owner(slot) == (generation, self._p_id, 0) and not is_known:
            self._welcome(slot, generation, fd)
        else:
            os.close(fd)

    def _welcome(self, slot: int, generation: int, fd: int) -> None:
        client = socket.socket(fileno=fd)
        client.setblocking(True)
        self._clients[fd] = (slot, generation, client)
        self._poll.register(fd, select.POLLIN)

    def _serve(self, fd: int) -> None:
        slot, generation, client = self._clients[fd]
        try:
            line = client.recv(LINE_BYTES, socket.MSG_PEEK).partition(b"\n")[0] + b"\n"
        except ConnectionResetError:
            line = b"\n"
        if line != b"\n":
            client.sendall(b"%d.%d %s" % (self._p_id, self._estate.generation, line))
            client.recv(len(line))
            return
        try:
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # ENOTCONN: the client has reset the connection
        self._registry.free(slot, generation)
        while True:
            try:
                keeping.let_go(self._estate.keeper, LetGo(slot, generation))
                break
            except BlockingIOError:
                time.sleep(0.001)
        self._forget(fd)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._clients.pop(fd)[2].close()
