"""All that workers tell the supervisor's keeper, and it tells them: one struct for each word.

The keeper holds a duplicate of every client's socket, so that a client outlives the worker that
serves it. Workers speak through the inlet of one datagram pair that all of them share; the keeper
answers with sockets through the nursery pair of a worker. A socket travels inside the message
(SCM_RIGHTS, unix(7)). Knows nothing of what is kept; the decisions are `supervisor.keeper`'s.

    <B B 2x I q>    word, p_id (of Give, else 0), slot, generation; a descriptor with Keep, Deliver

A datagram has one word, or several: whoever comes and goes with others costs the supervisor a part
of a system call. Their descriptors come in the order of the words.
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
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD: Final = struct.Struct("<BB2xIq")
_FD: Final = struct.Struct("i")
_KEEP: Final = 1
_LET_GO: Final = 2
_GIVE: Final = 3
_DELIVER: Final = 4

MOST_WORDS: Final = 250
"""Words of a datagram. The kernel takes 253 descriptors at a time (SCM_MAX_FD, net/scm.h)."""

_ROOM_FOR_WORDS: Final = MOST_WORDS * _WORD.size
_ROOM_FOR_FDS: Final = socket.CMSG_SPACE(MOST_WORDS * _FD.size)

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


def keep(inlet: socket.socket, *words: Keep) -> None:
    """Have these descriptors kept; the caller's own stay open. Waits while the pair is full.

    At most MOST_WORDS. They are kept all together: killed before, none of them is. Blocks without
    the GIL, and for ever if the supervisor stands still: acceptor thread only.
    """
    message = [_WORD.pack(_KEEP, 0, slot, generation) for slot, generation, _ in words]
    rights = _rights(*(fd for _, _, fd in words))
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


def let_go(inlet: socket.socket, *words: LetGo) -> None:
    """Say that these sessions are over: their sockets have been shut down. Any loop's thread.

    At most MOST_WORDS. Raises BlockingIOError when the pair is full: nothing has been said, to be
    tried again.
    """
    inlet.send(b"".join([_WORD.pack(_LET_GO, 0, *word) for word in words]))


def give(inlet: socket.socket, slot: int, generation: int, p_id: int) -> None:
    """Have the session's socket sent to the nursery of worker `p_id`. Any loop's thread.

    Raises BlockingIOError when the pair is full: nothing has been said, to be tried again.
    """
    inlet.send(_WORD.pack(_GIVE, p_id, slot, generation))


def receive(outlet: socket.socket) -> list[Word]:
    """Take what a worker has said next (supervisor); the descriptors of Keeps are the caller's.

    Raises BlockingIOError when nothing waits. A descriptor is NO_FD when this process may not have
    more.
    """
    said, fds = _take_datagram(outlet)
    words: list[Word] = []
    for kind, p_id, slot, generation in said:
        if kind == _KEEP:
            words.append(Keep(slot, generation, next(fds, NO_FD)))
        elif kind == _LET_GO:
            words.append(LetGo(slot, generation))
        elif kind == _GIVE:
            words.append(Give(slot, generation, p_id))
        else:
            raise ValueError(f"word {kind} to the keeper")
    return words


def deliver(inlet: socket.socket, slot: int, generation: int, fd: int) -> None:
    """Send a duplicate of `fd` to the worker of this nursery (supervisor).

    Raises BlockingIOError when the pair is full: nothing has been sent, to be tried again.
    """
    try:
        inlet.sendmsg([_WORD.pack(_DELIVER, 0, slot, generation)], _rights(fd))
    except OSError as error:
        if error.errno == errno.ETOOMANYREFS:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        raise


def take(outlet: socket.socket) -> Keep:
    """Take the next session that was sent to this worker's nursery; its fd is the caller's.

    Raises BlockingIOError when nothing waits. The fd is NO_FD when this process may not have more.
    """
    said, fds = _take_datagram(outlet)
    ((kind, _, slot, generation),) = said
    if kind != _DELIVER:
        raise ValueError(f"word {kind} to a nursery")
    return Keep(slot, generation, next(fds, NO_FD))


def _rights(*fds: int) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))]


def _take_datagram(
    outlet: socket.socket,
) -> tuple[Iterator[tuple[int, int, int, int]], Iterator[int]]:
    """Return the words of a datagram, and as many of their descriptors as there was room for."""
    data, rights, _, _ = outlet.recvmsg(_ROOM_FOR_WORDS, _ROOM_FOR_FDS, socket.MSG_CMSG_CLOEXEC)
    packed = rights[0][2] if rights else b""
    return _WORD.iter_unpack(data), (fd for (fd,) in _FD.iter_unpack(packed))


def _wait_for_room(inlet: socket.socket) -> None:
    room = select.poll()
    room.register(inlet, select.POLLOUT)
    room.poll()
