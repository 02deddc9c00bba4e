"""Who is at the other end of a connection."""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from prefork_chat.worker import peers
from prefork_chat.worker.peers import NO_UID, peer_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def accepted(host: str, family: socket.AddressFamily) -> Iterator[socket.socket]:
    """The server's end of a connection to `host`, accepted as a dual-stack server does."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(("::" if family == socket.AF_INET6 else host, 0))
        listener.listen()
        with (
            socket.create_connection((host, listener.getsockname()[1])),
            closing(listener.accept()[0]) as client,
        ):
            yield client


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        ("127.0.0.1", socket.AF_INET6),  # it comes as ::ffff:127.0.0.1
        ("::1", socket.AF_INET6),
    ],
)
def test_loopback_is_private_in_every_form(host: str, family: socket.AddressFamily) -> None:
    with accepted(host, family) as client:
        assert peer_of(client).is_private
        assert peer_of(client).uid == NO_UID
        # An adopted client's socket object is said to be of another family.
        adopted = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, client.fileno())
        assert peer_of(adopted) == peer_of(client)
        adopted.detach()


def test_the_same_machine_is_the_same_origin_over_both_protocols_of_ipv4() -> None:
    with (
        accepted("127.0.0.1", socket.AF_INET) as one,
        accepted("127.0.0.1", socket.AF_INET6) as other,
    ):
        assert peer_of(one) == peer_of(other)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
    ],
)
def test_a_network_of_ipv6_is_one_origin(one: str, other: str, is_same: bool) -> None:
    origins = [peers._remote_peer(ip_address(host)) for host in (one, other)]
    assert (origins[0] == origins[1]) == is_same
    assert not any(origin.is_private for origin in origins)


def test_a_local_peer_is_known_by_its_user() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert peer_of(here) == (b"uid %d" % os.getuid(), True, os.getuid())


def test_a_user_of_another_namespace_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_OVERFLOW_UID", os.getuid())
    here, there = socket.socketpair()
    with here, there:
        assert peer_of(here).uid == NO_UID
        assert peer_of(here).is_private


def test_who_is_gone_is_nobody_in_particular() -> None:
    with socket.socket() as unconnected:
        assert peer_of(unconnected) == (b"", False, NO_UID)
