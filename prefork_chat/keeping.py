"""All that workers tell the supervisor's keeper, and it tells them: one struct for each word.

The keeper holds a duplicate of every client's socket, so that a client outlives the worker that
serves it. Workers speak through the inlet of one datagram pair that all of them share; the keeper
answers with sockets through the nursery pair of a worker. A socket travels inside the message
(SCM_RIGHTS, unix(7)). Knows nothing of what is kept; the decisions are `supervisor.keeper`'s.

    <B B 2x I q>    word, p_id (of Give, else 0), slot, generation; a descriptor with Keep, Deliver

Slot and generation name a session as everywhere. Messages of one worker come out in the order in
which they were sent, whichever of its threads sent them. Both ends are non-blocking; `keep` alone
waits, in the acceptor's thread: it is better not to accept than to accept what nobody protects.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Final, NamedTuple, TypeAlias

_MESSAGE: Final = struct.Struct("<BB2xIq")
_FD: Final = struct.Struct("i")
_ROOM_FOR_FD: Final = socket.CMSG_SPACE(_FD.size)
_KEEP: Final = 1
_LET_GO: Final = 2
_GIVE: Final = 3
_DELIVER: Final = 4

NO_FD: Final = -1
"""In place of a descriptor that the receiver could not take: it has as many as it may have."""

# unix(7), ETOOMANYREFS: as many descriptors are under way as one process may have open. The
# receiver is not told to hurry, so there is nothing to wait for but time.
_PAUSE_SECONDS: Final = 0.001


class Keep(NamedTuple):
    """Keep `fd` for this session; from its acceptor, before a loop hears of the client."""

    slot: int
    generation: int
    fd: int


class LetGo(NamedTuple):
    """The session is over and its socket shut down; from its loop."""

    slot: int
    generation: int


class Give(NamedTuple):
    """Send the session's socket to worker `p_id`, which serves it from now on; from its loop."""

    slot: int
    generation: int
    p_id: int


Word: TypeAlias = Keep | LetGo | Give


def keep(inlet: socket.socket, slot: int, generation: int, fd: int) -> None:
    """Have `fd` kept for this session; the caller's own stays open. Waits while the pair is full.

    Blocks without the GIL, and for ever if the supervisor stands still: acceptor thread only.
    """
    message = [_MESSAGE.pack(_KEEP, 0, slot, generation)]
    rights = _rights(fd)
    while True:
        try:
            inlet.sendmsg(message, rights)
        except BlockingIOError:
            _wait_for_room(inlet)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def let_go(inlet: socket.socket, slot: int, generation: int) -> None:
    """Say that the session is over: its socket has been shut down. Any loop's thread.

    Raises BlockingIOError when the pair is full: nothing has been said, to be tried again.
    """
    inlet.send(_MESSAGE.pack(_LET_GO, 0, slot, generation))


def give(inlet: socket.socket, slot: int, generation: int, p_id: int) -> None:
    """Have the session's socket sent to the nursery of worker `p_id`. Any loop's thread.

    Raises BlockingIOError when the pair is full: nothing has been said, to be tried again.
    """
    inlet.send(_MESSAGE.pack(_GIVE, p_id, slot, generation))


def receive(outlet: socket.socket) -> Word:
    """Take the next word that a worker has said (supervisor); the fd of a Keep is the caller's.

    Raises BlockingIOError when nothing waits. The fd is NO_FD when this process may not have more.
    """
    kind, p_id, slot, generation, fd = _take_message(outlet)
    if kind == _KEEP:
        return Keep(slot, generation, fd)
    if kind == _LET_GO:
        return LetGo(slot, generation)
    if kind == _GIVE:
        return Give(slot, generation, p_id)
    raise ValueError(f"word {kind} to the keeper")


def deliver(inlet: socket.socket, slot: int, generation: int, fd: int) -> None:
    """Send a duplicate of `fd` to the worker of this nursery (supervisor).

    Raises BlockingIOError when the pair is full: nothing has been sent, to be tried again.
    """
    try:
        inlet.sendmsg([_MESSAGE.pack(_DELIVER, 0, slot, generation)], _rights(fd))
    except OSError as error:
        if error.errno == errno.ETOOMANYREFS:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        raise


def take(outlet: socket.socket) -> Keep:
    """Take the next session that was sent to this worker's nursery; its fd is the caller's.

    Raises BlockingIOError when nothing waits. The fd is NO_FD when this process may not have more.
    """
    kind, _, slot, generation, fd = _take_message(outlet)
    if kind != _DELIVER:
        raise ValueError(f"word {kind} to a nursery")
    return Keep(slot, generation, fd)


def _rights(fd: int) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))]


def _take_message(outlet: socket.socket) -> tuple[int, int, int, int, int]:
    data, rights, _, _ = outlet.recvmsg(_MESSAGE.size, _ROOM_FOR_FD, socket.MSG_CMSG_CLOEXEC)
    kind, p_id, slot, generation = _MESSAGE.unpack(data)
    fd: int = _FD.unpack_from(rights[0][2])[0] if rights else NO_FD
    return kind, p_id, slot, generation, fd


def _wait_for_room(inlet: socket.socket) -> None:
    room = select.poll()
    room.register(inlet, select.POLLOUT)
    room.poll()
