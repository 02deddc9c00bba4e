"""What the kernel counts for us, on real sockets: the ground that adoption stands on."""

from __future__ import annotations

import errno
import select
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from prefork_chat.worker import counters
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

LINGER_OFF = struct.pack("ii", 1, 0)


class Connected:
    """Two ends of a connection: `client`, and the daemon's, which does not block."""

    def __init__(self, client: socket.socket, served: socket.socket) -> None:
        self.client = client
        self.served = served
        served.setblocking(False)

    def arrive(self, data: bytes) -> None:
        """Have the client send `data`, and wait until all that it sent is here."""
        self.client.sendall(data)
        until(lambda: self._has_come(data), "it to arrive")

    def _has_come(self, data: bytes) -> bool:
        try:
            return self.served.recv(1 << 20, socket.MSG_PEEK).endswith(data)
        except BlockingIOError:
            return False

    def close(self) -> None:
        self.client.close()
        self.served.close()


@pytest.fixture
def tcp() -> Iterator[Connected]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        connected = Connected(client, listener.accept()[0])
    yield connected
    connected.close()


@pytest.fixture
def unix() -> Iterator[Connected]:
    connected = Connected(*socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    yield connected
    connected.close()


def test_a_new_connection_has_taken_and_consumed_nothing(tcp: Connected) -> None:
    assert counters.taken(tcp.served) == 0
    assert counters.consumed(tcp.served) == 0


def test_consumed_is_what_was_read_and_not_what_was_peeked_at(tcp: Connected) -> None:
    tcp.arrive(b"0123456789")
    assert counters.consumed(tcp.served) == 0
    for consumed in range(1, 11):
        tcp.served.recv(1, socket.MSG_TRUNC)
        assert counters.consumed(tcp.served) == consumed
    tcp.arrive(b"more")
    assert counters.consumed(tcp.served) == 10


@pytest.mark.parametrize("consumed", [0, 4, 10])
def test_the_end_of_the_stream_is_not_a_byte_of_it(tcp: Connected, consumed: int) -> None:
    """The kernel counts a FIN as one."""
    tcp.arrive(b"0123456789")
    if consumed:
        tcp.served.recv(consumed)
    tcp.client.shutdown(socket.SHUT_WR)
    poller = select.poll()
    poller.register(tcp.served, select.POLLRDHUP)
    assert poller.poll(10_000)
    assert counters.consumed(tcp.served) == consumed
    assert len(tcp.served.recv(100)) == 10 - consumed
    assert counters.consumed(tcp.served) == 10


def test_our_own_end_of_the_stream_changes_nothing(tcp: Connected) -> None:
    tcp.arrive(b"0123456789")
    tcp.served.recv(3)
    tcp.served.send(b"12345")
    tcp.served.shutdown(socket.SHUT_WR)
    assert counters.consumed(tcp.served) == 3


def test_taken_is_what_the_kernel_has_whether_the_peer_read_it_or_not(tcp: Connected) -> None:
    written = 0
    while select.select([], [tcp.served], [], 0)[1]:
        written += tcp.served.send(b"x" * 50_001)
        assert counters.taken(tcp.served) == written
    read = 0
    while read < written:
        read += len(tcp.client.recv(65536))
        assert counters.taken(tcp.served) == written
    until(lambda: queued(tcp.served) == 0, "all of it to be acknowledged")
    assert counters.taken(tcp.served) == written


def queued(end: socket.socket) -> int:
    return counters._queued(end, 0x5411)  # TIOCOUTQ


def test_a_reset_connection_can_still_be_asked(tcp: Connected) -> None:
    """A successor may find one: it asks before it knows."""
    tcp.arrive(b"0123456789")
    tcp.served.recv(4)
    tcp.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
    tcp.client.close()
    poller = select.poll()
    poller.register(tcp.served, 0)
    assert poller.poll(10_000)  # POLLERR or POLLHUP
    assert counters.consumed(tcp.served) >= 4
    assert counters.taken(tcp.served) == 0


def test_where_tcp_peeks_can_be_followed_each_goes_on_behind_the_last(tcp: Connected) -> None:
    tcp.arrive(b"0123456789")
    try:
        counters.follow_peeks(tcp.served)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return  # before Linux 6.9
    assert tcp.served.recv(4, socket.MSG_PEEK) == b"0123"
    assert tcp.served.recv(100, socket.MSG_PEEK) == b"456789"
    with pytest.raises(BlockingIOError):
        tcp.served.recv(100, socket.MSG_PEEK)
    assert counters.consumed(tcp.served) == 0
    assert len(tcp.served.recv(4, socket.MSG_TRUNC)) == 4
    tcp.client.sendall(b"ab")
    assert select.select([tcp.served], [], [], 10)[0]
    until(lambda: counters.consumed(tcp.served) == 4, "the rest to stay")
    assert until(lambda: peek(tcp.served), "the new ones") == b"ab"
    counters.follow_peeks(tcp.served)  # a successor begins where nothing was consumed
    assert tcp.served.recv(100, socket.MSG_PEEK) == b"456789ab"


def peek(end: socket.socket) -> bytes:
    try:
        return end.recv(100, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


def test_a_unix_socket_tells_whether_what_was_peeked_has_been_consumed(unix: Connected) -> None:
    unix.arrive(b"0123456789")
    counters.follow_peeks(unix.served)
    assert counters.peeked(unix.served) == 0
    assert unix.served.recv(6, socket.MSG_PEEK) == b"012345"
    assert counters.peeked(unix.served) == 6
    unix.served.recv(4)
    assert counters.peeked(unix.served) == 2
    unix.client.sendall(b"ab")
    assert unix.served.recv(100, socket.MSG_PEEK) == b"6789ab"
    assert counters.peeked(unix.served) == 8
    counters.follow_peeks(unix.served)
    assert unix.served.recv(100, socket.MSG_PEEK) == b"456789ab"


def test_what_a_unix_socket_knows_of_peeks_outlives_who_peeked(unix: Connected) -> None:
    """It belongs to the socket, of which the successor has a duplicate."""
    unix.arrive(b"0123456789")
    counters.follow_peeks(unix.served)
    unix.served.recv(6, socket.MSG_PEEK)
    with unix.served.dup() as kept:
        unix.served.close()
        assert counters.peeked(kept) == 6


def test_a_pair_of_datagrams_gives_the_next_one_at_each_peek() -> None:
    inlet, outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with inlet, outlet:
        outlet.setblocking(False)
        counters.follow_peeks(outlet)
        for datagram in (b"first", b"second", b"third"):
            inlet.send(datagram)
        assert outlet.recv(100, socket.MSG_PEEK) == b"first"
        assert outlet.recv(100, socket.MSG_PEEK) == b"second"
        outlet.recv(1)  # consumes the first, whole
        assert outlet.recv(100, socket.MSG_PEEK) == b"third"
        counters.follow_peeks(outlet)
        assert outlet.recv(100, socket.MSG_PEEK) == b"second"
