"""What the kernel knows of a client's byte streams: how much came in, how much it took.

A successor learns here how far its dead predecessor got, to the byte. Pure questions to a socket,
about 2 µs each, asked when a session is adopted. TCP counts for us (tcp(7), TCP_INFO). A Unix
socket has no such counters, but remembers how far it was peeked (socket(7), SO_PEEK_OFF), which
tells whether what was peeked has been consumed since. With Linux 6.9 TCP sockets remember that,
too: then a peek goes on where the last one ended, and little by little need not be consumed.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SO_PEEK_OFF: Final = 42
"""asm-generic/socket.h; the socket module does not name it."""

_INFO_BYTES: Final = 136
_COUNTERS: Final = struct.Struct("<QQ")
"""tcpi_bytes_acked and tcpi_bytes_received (linux/tcp.h; Linux 4.2 and later)."""
_COUNTERS_OFFSET: Final = 120
_FIN_RECEIVED: Final = frozenset({6, 8, 9, 11})
"""tcpi_state TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING (net/tcp_states.h): the peer's FIN has come,
and tcpi_bytes_received counts it as a byte."""


def taken(client: socket.SocketType) -> int:
    """How many bytes of all that was ever written to a TCP client the kernel has taken."""
    acked, queued = _at_one_moment(client, _acked, termios.TIOCOUTQ)
    return acked + queued


def consumed(client: socket.SocketType) -> int:
    """How many bytes of all that a TCP client ever sent have been read, not only peeked."""
    received, queued = _at_one_moment(client, _received, termios.FIONREAD)
    return received - queued


def follow_peeks(client: socket.SocketType) -> None:
    """Begin to peek at the first byte, or datagram, that was not consumed.

    Raises OSError for a TCP socket of a kernel that does not remember.
    """
    client.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)


def peeked(client: socket.SocketType) -> int:
    """How many bytes have been peeked and not consumed since (Unix sockets that follow peeks)."""
    return client.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)


def _at_one_moment(
    client: socket.SocketType, count: Callable[[socket.SocketType], int], request: int
) -> tuple[int, int]:
    """Return what `count` says, and what is queued, of a moment between two equal counts.

    The client may send, or its kernel acknowledge, while we ask: one number would be older than the
    other, by all that came in between. It does not go on for ever: nobody reads from, or writes to,
    a socket that is being adopted.
    """
    before = count(client)
    while True:
        queued = _queued(client, request)
        after = count(client)
        if after == before:
            return after, queued
        before = after


def _acked(client: socket.SocketType) -> int:
    acked: int = _COUNTERS.unpack_from(_info(client), _COUNTERS_OFFSET)[0]
    return acked


def _received(client: socket.SocketType) -> int:
    info = _info(client)
    received: int = _COUNTERS.unpack_from(info, _COUNTERS_OFFSET)[1]
    return received - (info[0] in _FIN_RECEIVED)


def _info(client: socket.SocketType) -> bytes:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)


def _queued(client: socket.SocketType, request: int) -> int:
    answer = fcntl.ioctl(client.fileno(), request, b"\0\0\0\0")
    count: int = struct.unpack("i", answer)[0]
    return count
