"""Several addresses at once, and none of them starves another."""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import StartDaemon

# Connects without waiting, so that it fills the backlog up whenever there is room, and hangs up.
FLOOD = """
import socket, struct, sys
address = (sys.argv[1], int(sys.argv[2]))
while True:
    for _ in range(1000):
        stream = socket.socket()
        stream.setblocking(False)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.connect_ex(address)
        stream.close()
    print("1000", flush=True)
"""
FLOODED = 3000


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def socket_path(tmp_path: Path) -> str:
    path = str(tmp_path / "chat.sock")
    assert len(path) < 108, "too long for a Unix socket"
    return path


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_people_at_different_addresses_talk_to_each_other(
    start_daemon: StartDaemon, socket_path: str
) -> None:
    daemon = start_daemon(listen=["127.0.0.1:0", "[::1]:0", f"unix:{socket_path}", "127.0.0.1:0"])
    assert [str(address).rpartition(":")[0] for address in daemon.addresses] == [
        "127.0.0.1",
        "[::1]",
        "unix",
        "127.0.0.1",
    ]
    people = {
        f"p{n}": daemon.connect(address=address) for n, address in enumerate(daemon.addresses * 2)
    }
    for name, person in people.items():
        person.join(name)
    for name, person in people.items():
        for other, receiver in people.items():
            if other != name:
                person.say(other, f"from {name}")
                receiver.expect(f"CHAT {name} from {name}")
    for person in people.values():
        person.leave()


def test_a_flood_of_tcp_connections_does_not_starve_the_unix_socket(
    start_daemon: StartDaemon, socket_path: str
) -> None:
    """Others polled the first listener until it was empty, which it never was (unicorn)."""
    daemon = start_daemon(listen=["127.0.0.1:0", f"unix:{socket_path}"])
    tcp, unix = daemon.addresses
    witness = daemon.connect(address=unix)
    with running(sys.executable, "-c", FLOOD, tcp.host, str(tcp.port)) as flood:
        assert flood.stdout is not None
        assert flood.stdout.readline() == "1000\n"
        before, n = witness.stat()["accepted"], 0
        while witness.stat()["accepted"] - before < FLOODED:
            start = time.monotonic()
            with daemon.connect(address=unix) as client:
                client.join(f"local{n}")
                client.leave()
            assert time.monotonic() - start < 2.0
            n += 1
        assert n > 10
