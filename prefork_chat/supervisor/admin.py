"""Who may ask the running daemon something, how that is read, and how answers leave.

The supervisor's only thread calls `hear` and `answer` in each turn of its loop; `fileno()` is
readable when somebody has come, has asked, or takes more of his answer. Nothing here waits for
anybody. What is asked for goes to `operations`, as a signal does; what an answer consists of is
made line by line, as fast as it is taken, so that a long one neither fills memory nor stops the
loop.

Only root and the daemon's own user are heard: the socket's mode (0600) says so, and what the kernel
tells of the peer (SO_PEERCRED). A peer has one request. Of many peers the oldest must go. A console
stays: it has a place (`visits`), and gives it back by hanging up, however it ends.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, assert_never

from prefork_chat import control
from prefork_chat.control import (
    Attach,
    Clients,
    Done,
    Drain,
    Failed,
    Post,
    Recycle,
    Reload,
    Stop,
    Upgrade,
    Visit,
    Workers,
)
from prefork_chat.errors import ConfigError
from prefork_chat.log import ADMIN_REFUSED, get_logger
from prefork_chat.supervisor import handing, reports
from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.handing import Parcel
from prefork_chat.supervisor.operations import Refused
from prefork_chat.supervisor.replacing import Round
from prefork_chat.supervisor.visits import Visits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork_chat.control import Answer, Request
    from prefork_chat.supervisor.configuration import Configuration
    from prefork_chat.supervisor.estate import Estate
    from prefork_chat.supervisor.operations import Operations
    from prefork_chat.supervisor.workforce import Workforce

_MOST_PEERS: Final = 16
# Made of an answer at one time; about 500 clients, which takes 2 ms.
_CHUNK_BYTES: Final = 65_536
_CREDENTIALS: Final = struct.Struct("iII")  # unix(7): pid, uid, gid


class Peer:
    """Somebody who asks. `waits_for` is the round whose end is his answer.

    `descriptors` go with the first byte of `out`; they are ours until then. `place` is that of a
    console, which stays when it has its answer; None for everybody else.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection: Final = connection
        self.question = b""
        self.has_asked = False
        self.waits_for: Round | None = None
        self.answers: Iterator[Answer | Parcel] = iter(())
        self.out = b""
        self.descriptors: tuple[int, ...] = ()
        self.place: int | None = None

    def send(self) -> None:
        """Send what is taken of `out`; raises OSError."""
        sent = socket.send_fds(self.connection, [self.out], self.descriptors)
        self.out = self.out[sent:]
        self._drop_descriptors()

    def close(self) -> None:
        """Hang up, in this process."""
        self._drop_descriptors()
        self.connection.close()

    def _drop_descriptors(self) -> None:
        descriptors, self.descriptors = self.descriptors, ()
        for fd in descriptors:
            os.close(fd)


class Admin:
    """All peers. Owner: the supervisor's thread."""

    def __init__(
        self,
        estate: Estate,
        workforce: Workforce,
        configuration: Configuration,
        operations: Operations,
    ) -> None:
        """Listen at the estate's admin socket."""
        self._estate: Final = estate
        self._workforce: Final = workforce
        self._configuration: Final = configuration
        self._operations: Final = operations
        self._visits: Final = Visits(estate.registry.consoles, estate.pairs.consoles)
        self._listener: Final = estate.admin.socket
        self._peers: dict[int, Peer] = {}  # by descriptor, the oldest first
        self._epoll: Final = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._log: Final = get_logger()

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._epoll.fileno()

    def hear(self) -> None:
        """Let in who has come, begin what is asked for, send what is taken."""
        for fd, _ in self._epoll.poll(0):
            if fd == self._listener.fileno():
                self._welcome()
            elif fd in self._peers:
                self._carry_on(self._peers[fd])

    def answer(self) -> None:
        """Answer those whose round is over."""
        for peer in list(self._peers.values()):
            if peer.waits_for is not None and peer.waits_for.is_over:
                self._answer(peer, iter([_outcome(peer.waits_for)]))

    def hand_on(self) -> list[tuple[int, bytes | None]]:
        """Return who has still to ask or waits for a round: descriptor, and what he has said.

        None instead: his question has been understood. Who is being answered is not among them.
        """
        return [
            (fd, None if peer.has_asked else peer.question)
            for fd, peer in self._peers.items()
            if not peer.has_asked or peer.waits_for is not None
        ]

    def resume(self, handed_on: Iterable[tuple[int, bytes | None]], round_: Round) -> None:
        """Go on with those of another supervisor; who waited for something waits for `round_`."""
        for fd, question in handed_on:
            connection = socket.socket(fileno=fd)
            connection.setblocking(False)
            peer = self._admit(connection)
            if question is None:
                peer.has_asked = True
                peer.waits_for = round_
            else:
                peer.question = question

    def close_in_child(self) -> None:
        """Close what a worker has no use for."""
        for peer in self._peers.values():
            peer.close()
        self._listener.close()
        self._epoll.close()

    def close(self) -> None:
        """Hang up on everybody who still waits."""
        for peer in list(self._peers.values()):
            self._part(peer)
        self._epoll.close()

    def _welcome(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor left: it will be asked once more
        connection.setblocking(False)
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in (0, os.geteuid()):
            self._log.warning(ADMIN_REFUSED, peer_pid=pid, peer_uid=uid)
            connection.close()
            return
        if len(self._peers) == _MOST_PEERS:
            self._part(next(peer for peer in self._peers.values() if peer.place is None))
        self._admit(connection)

    def _admit(self, connection: socket.socket) -> Peer:
        peer = self._peers[connection.fileno()] = Peer(connection)
        self._epoll.register(connection, select.EPOLLIN)
        return peer

    def _carry_on(self, peer: Peer) -> None:
        if not peer.has_asked:
            self._listen(peer)
        elif peer.out:
            self._write(peer)
        else:
            self._part(peer)  # he has hung up, or says more than he may

    def _listen(self, peer: Peer) -> None:
        try:
            data = peer.connection.recv(control.REQUEST_BYTES)
        except OSError:
            data = b""
        peer.question += data
        line, end, _ = peer.question.partition(b"\n")
        if end:
            peer.has_asked = True
            self._obey(peer, line)
        elif not data or len(peer.question) >= control.REQUEST_BYTES:
            self._part(peer)

    def _obey(self, peer: Peer, line: bytes) -> None:
        try:
            request = control.decode_request(line)
        except ValueError as error:
            self._answer(peer, iter([Failed(f"not understood: {error}")]))
            return
        try:
            begun = self._begin(peer, request)
        except (Refused, ConfigError) as refused:
            self._answer(peer, iter([Failed(str(refused))]))
            return
        if isinstance(begun, Round):
            peer.waits_for = begun
        elif begun is not None:
            self._answer(peer, begun)

    def _begin(  # noqa: C901 - a table
        self, peer: Peer, request: Request
    ) -> Round | Iterator[Answer | Parcel] | None:
        """Begin what is asked for; None if the end of the connection is to be the answer."""
        begun: Round | Iterator[Answer | Parcel] | None = None
        match request:
            case Workers():
                begun = reports.workers(self._estate, self._workforce)
            case Clients():
                begun = reports.clients(self._estate)
            case Attach(parts):
                begun = handing.hand_over(self._estate, parts)
            case Post(topic, text):
                self._operations.post(topic, text)
                begun = iter([Done(f"the {topic} is {'set' if text else 'taken away'}")])
            case Visit():
                peer.place, begun = self._visits.begin(self._configuration.current, request)
            case Recycle(p_id):
                begun = self._operations.recycle(p_id)
            case Reload():
                begun = self._operations.reload()
            case Upgrade():
                begun = self._operations.upgrade()
            case Drain():
                self._operations.drain()
                begun = iter([Done(self._operations.describe())])
            case Stop():
                self._operations.stop("ctl stop")
            case _:
                assert_never(request)
        return begun

    def _answer(self, peer: Peer, answers: Iterator[Answer | Parcel]) -> None:
        peer.waits_for = None
        peer.answers = answers
        self._write(peer)

    def _write(self, peer: Peer) -> None:
        """Send as much as is taken; hang up after the last line, but on a console."""
        try:
            while self._refill(peer):
                peer.send()
        except BlockingIOError:
            self._epoll.modify(peer.connection, select.EPOLLOUT)
            return
        except OSError:
            self._part(peer)  # he has hung up
            return
        if peer.place is None:
            self._part(peer)
        else:
            self._epoll.modify(peer.connection, select.EPOLLIN)

    def _refill(self, peer: Peer) -> bool:
        """Make more of the answer when the last part has been taken; False at its end."""
        if not peer.out:
            lines: list[bytes] = []
            size = 0
            for answer in peer.answers:
                if isinstance(answer, Parcel):
                    lines.append(control.encode(answer.label))
                    peer.descriptors = answer.descriptors
                    break
                lines.append(control.encode(answer))
                size += len(lines[-1])
                if size >= _CHUNK_BYTES:
                    break
            peer.out = b"".join(lines)
        return bool(peer.out)

    def _part(self, peer: Peer) -> None:
        del self._peers[peer.connection.fileno()]
        peer.close()
        if peer.place is not None:
            self._visits.end(peer.place)


def _outcome(round_: Round) -> Answer:
    """Return what the end of a round means for who has asked for it."""
    if round_.failure:
        return Failed(f"{round_.reason}: {round_.failure}")
    seconds = (time.monotonic_ns() - round_.begun_ns) / NANOSECONDS
    many = len(round_.targets)
    text = f"{round_.reason}: {many} worker{'s' if many > 1 else ''} replaced in {seconds:.1f} s"
    return Done(f"{text}; {round_.remark}" if round_.remark else text)
