"""The anonymous pipe: it has no name, so somebody must hand its ends over.

Two ways, the same stream (`stream`) in both:
- The shell is the common parent: `prefork-chat ipc serve --via pipe FILE | prefork-chat ipc read
  --via pipe`. Its ends are the standard output and input (`StreamSender`, `StreamReceiver`).
- Unrelated processes: the server makes the pipe and gives the reading end to the client that comes
  to its rendezvous socket (SCM_RIGHTS, unix(7)). Then it closes its own copy, so that the kernel
  tells it when the client has gone.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import stat
from typing import TYPE_CHECKING

from prefork_chat.channels.errors import ChannelError, PeerGone
from prefork_chat.channels.rendezvous import Rendezvous, meet, path_of
from prefork_chat.channels.stream import BUFFER_BYTES, StreamReceiver, StreamSender

if TYPE_CHECKING:
    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry


class PipeSender(StreamSender):
    """Makes the pipe when the client comes."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(-1, entry)
        self._rendezvous = Rendezvous(entry)

    def _has_client(self, seconds: float) -> bool:
        if self._fd >= 0:
            return True
        connection = self._rendezvous.accept(seconds)
        if connection is None:
            return False
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        enlarge(writing)
        try:
            with connection:
                socket.send_fds(connection, [b"\0"], [reading])
        except OSError as error:
            os.close(writing)
            raise PeerGone("the reader has gone") from error
        finally:
            os.close(reading)
        self._fd = writing
        self._rendezvous.close()
        return True

    def _remove_name(self) -> None:
        self._rendezvous.close()


class PipeReceiver(StreamReceiver):
    """Polls its socket until the pipe comes, then the pipe."""

    def __init__(self, entry: Entry) -> None:
        self._claimed = entry
        self._connection: socket.socket | None = meet(entry)
        super().__init__(self._connection.fileno(), entry)

    def is_peer_alive(self) -> bool:
        """Ask the kernel; before the pipe is taken out of the socket, the ledger."""
        if self._connection is not None:
            return self._claimed.is_server_alive()
        return super().is_peer_alive()

    def close(self) -> None:
        """Close the socket or the pipe."""
        if self._connection is not None:
            self._connection.detach()
            self._connection = None
        super().close()

    def _read(self, seconds: float) -> bool:
        if self._connection is None:
            return super()._read(seconds)
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
        try:
            _, fds, _, _ = socket.recv_fds(self._connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            fds = []
        if not fds:
            raise PeerGone("the server has gone before the end of the stream")
        self._connection.close()
        self._connection = None
        self._fd = fds[0]
        return super()._read(seconds)


def serve(_: Key, entry: Entry) -> PipeSender:
    """Make the rendezvous; the pipe comes with the client."""
    return PipeSender(entry)


def connect(_: Key, entry: Entry) -> PipeReceiver:
    """Ask for the pipe."""
    return PipeReceiver(entry)


def remove_objects(entry: Entry) -> None:
    """Remove the rendezvous of a dead server."""
    path_of(entry).unlink(missing_ok=True)


def is_pipe(fd: int) -> bool:
    """Say whether a descriptor, which may be closed, is a pipe or FIFO."""
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False


def sender_of(fd: int) -> StreamSender:
    """Return a sender into a pipe that the parent process made."""
    mine = _reopen(fd, os.O_WRONLY)
    enlarge(mine)
    return StreamSender(mine)


def receiver_of(fd: int) -> StreamReceiver:
    """Return a receiver out of a pipe that the parent process made."""
    return StreamReceiver(_reopen(fd, os.O_RDONLY))


def enlarge(fd: int) -> None:
    """Ask for a large buffer; the one that is there will do."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, BUFFER_BYTES)
    except OSError:
        pass  # this user's pipes have too much memory already


def _reopen(fd: int, flags: int) -> int:
    """Move a pipe's end to a new, non-blocking open file, and `fd` to nowhere.

    O_NONBLOCK belongs to the open file, and that of a standard descriptor to others, too.
    """
    try:
        mine = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ChannelError(f"the pipe at descriptor {fd}: {error.strerror}") from error
    os.dup2(nowhere, fd)
    os.close(nowhere)
    return mine
