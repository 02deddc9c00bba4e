"""What a successor learns of a client's streams is right, also while the client goes on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from prefork_chat.worker import counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SENT: Final = b"x" * 1000
CONSUMED: Final = 300
MUCH: Final = b"y" * 8_000_000


class Meddled(socket.socket):
    """A socket of which `meddle` is called once, right after it was asked for its counters."""

    meddle: Callable[[], None] | None = None

    def getsockopt(self, level: int, name: int, size: int) -> bytes:  # type: ignore[override]
        answer = super().getsockopt(level, name, size)
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()
        return answer


class Ends(NamedTuple):
    """Both ends of a TCP connection."""

    client: socket.socket
    server: Meddled


@pytest.fixture
def ends() -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    server = Meddled(fileno=accepted.detach())
    server.setblocking(False)
    with client, server:
        yield Ends(client, server)


def test_what_was_consumed_does_not_change_when_more_comes_meanwhile(ends: Ends) -> None:
    ends.client.sendall(SENT)
    ends.server.recv(CONSUMED)
    assert counters.consumed(ends.server) == CONSUMED
    ends.server.meddle = lambda: ends.client.sendall(SENT)
    assert counters.consumed(ends.server) == CONSUMED


def test_what_was_consumed_does_not_change_when_the_client_hangs_up_meanwhile(ends: Ends) -> None:
    ends.client.sendall(SENT)
    ends.server.recv(CONSUMED)
    ends.server.meddle = lambda: ends.client.shutdown(socket.SHUT_WR)
    assert counters.consumed(ends.server) == CONSUMED
    assert counters.consumed(ends.server) == CONSUMED


def test_what_was_taken_does_not_change_when_the_client_reads_meanwhile(ends: Ends) -> None:
    taken = ends.server.send(MUCH)
    assert taken < len(MUCH)
    assert counters.taken(ends.server) == taken

    def read_all() -> None:
        left = taken
        while left:
            left -= len(ends.client.recv(left))

    ends.server.meddle = read_all
    assert counters.taken(ends.server) == taken
