"""How clients go, in order and otherwise, and that their names are free then."""

from __future__ import annotations

import select
import sys
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat.worker.departures import QUIET_SETTLE_SECONDS
from tests.harness.client import LineClient
from tests.harness.processes import running
from tests.harness.waiting import until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from prefork_chat.addresses import Address
    from tests.daemon.another_machine import AnotherMachine
    from tests.harness.daemon import Daemon, StartDaemon

HANG_UPS: dict[str, Callable[[LineClient], None]] = {
    "end-of-file": LineClient.half_close,
    "close": LineClient.close,
    "reset": LineClient.reset,
    "leav": LineClient.leave,
}

# A client that joins, says so, and then does nothing at all. It acknowledges at once what it got:
# as long as some of it is not acknowledged the kernel sends that again, in place of keepalives.
JOIN_AND_HANG = """
import signal, socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
stream.sendall(b"JOIN alice\\n")
lines = stream.makefile("r")
assert lines.readline().startswith("OK HELO") and lines.readline() == "OK JOIN alice\\n"
stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
print("joined", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("hang_up", HANG_UPS.values(), ids=HANG_UPS)
def test_a_name_is_free_when_its_client_has_gone(
    daemon: Daemon, hang_up: Callable[[LineClient], None]
) -> None:
    bob = daemon.join("bob", 0)
    for worker in (0, 1, 0):
        alice = daemon.join("alice", worker)
        hang_up(alice)
        until(lambda: daemon.stat()["names"] == 1, "the name to be free")
        bob.send("CHAT alice are you there?")
        bob.expect_error("CHAT", "NOUSER", "alice")


def test_a_name_is_free_when_its_client_was_killed(daemon: Daemon) -> None:
    with running(*join_and_hang(daemon.addresses[0])) as client:
        assert read_line(client) == "joined\n"
        assert daemon.stat()["names"] == 1
        client.kill()
        until(lambda: daemon.stat()["names"] == 0, "the name to be free")
    daemon.join("alice")


def test_what_was_sent_before_the_end_of_file_is_carried_out_and_answered(daemon: Daemon) -> None:
    bob = daemon.join("bob", 1)
    alice = daemon.connect(0)
    alice.send("JOIN alice", *(f"@{n} CHAT bob {n}" for n in range(300)), "PING last")
    alice.half_close()
    assert bob.read_lines(300) == [f"CHAT alice {n}" for n in range(300)]
    answers = alice.read_lines(302)
    assert answers[0] == "OK JOIN alice"
    assert [a for a in answers if "CHAT" in a] == [f"@{n} OK CHAT bob" for n in range(300)]
    assert "OK PING last" in answers
    alice.expect_end()


def test_half_a_line_before_the_end_of_file_is_not_carried_out(daemon: Daemon) -> None:
    alice = daemon.connect()
    alice.send_bytes(b"PING 1\nJOIN alice")
    alice.half_close()
    alice.expect("OK PING 1")
    alice.expect_end()
    assert daemon.stat()["names"] == 0


def test_leav_after_messages_comes_after_their_receipts(daemon: Daemon) -> None:
    bob = daemon.join("bob", 1)
    alice = daemon.join("alice", 0)
    alice.send(*(f"CHAT bob {n}" for n in range(100)), "LEAV", "PING too.late")
    assert alice.read_lines(101) == ["OK CHAT bob"] * 100 + ["OK LEAV"]
    alice.expect_end()
    assert bob.read_lines(100) == [f"CHAT alice {n}" for n in range(100)]


def test_a_quiet_client_that_leaves_gets_the_errors_of_its_last_messages(daemon: Daemon) -> None:
    daemon.join("bob", 1).leave()
    alice = daemon.join("alice", 0)
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.send("CHAT bob hi", "LEAV")
    alice.expect_error("CHAT", "NOUSER", "bob")
    alice.expect("OK LEAV")
    alice.expect_end()


def test_a_quiet_client_that_leaves_waits_only_a_moment_for_errors(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.send("CHAT bob hi", "LEAV")
    bob.expect("CHAT alice hi")
    alice.expect("OK LEAV")
    alice.expect_end(seconds=2.0)


def test_a_quiet_client_waits_for_errors_whatever_else_it_asked_for(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.send("CHAT bob hi", "PING", "LEAV")
    alice.expect("OK PING")
    asked_at = time.monotonic()
    alice.expect("OK LEAV")
    assert time.monotonic() - asked_at >= QUIET_SETTLE_SECONDS / 2
    bob.expect("CHAT alice hi")


def test_a_message_to_a_neighbour_who_hangs_up_meanwhile_is_answered(
    start_daemon: StartDaemon,
) -> None:
    """Both happen in one turn of the loop that both are at."""
    daemon = start_daemon(threads=1)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 0)
    with daemon.stopped_worker(0):
        alice.send("CHAT bob are you there?")
        bob.reset()
    alice.expect_error("CHAT", "NOUSER", "bob")
    alice.expect_nothing()


def test_a_peer_that_never_says_a_line_or_trickles_one_is_closed(start_daemon: StartDaemon) -> None:
    login_seconds = 0.6
    daemon = start_daemon(login_seconds=login_seconds)
    joined = daemon.join("joined")
    start = time.monotonic()
    silent, trickling = daemon.connect(0), daemon.connect(1)
    while not select.select([trickling.socket], [], [], 0.05)[0]:
        trickling.send_bytes(b"x")
    for client in (silent, trickling):
        client.expect_error("*", "NOJOIN")
        client.expect_end()
        assert time.monotonic() - start >= login_seconds
    joined.expect_nothing()


def test_a_half_open_client_is_given_up_and_its_name_is_free(
    start_daemon: StartDaemon, another_machine: AnotherMachine
) -> None:
    daemon = start_daemon(
        listen=["127.0.0.1:0", f"[{another_machine.our_address}]:0"],
        tcp_keepalive_idle_seconds=1,
        tcp_keepalive_interval_seconds=1,
        tcp_keepalive_probes=2,
    )
    client = another_machine.command(*join_and_hang(daemon.addresses[1]))
    with running(*client) as lost:
        assert read_line(lost) == "joined\n"
        alice = daemon.connect()
        alice.send("JOIN alice")
        alice.expect_error("JOIN", "INUSE", "alice")
        another_machine.unplug()
        until(lambda: daemon.stat()["names"] == 0, "keepalive to find out")
        alice.join("alice")


def join_and_hang(address: Address) -> tuple[str, ...]:
    return (sys.executable, "-c", JOIN_AND_HANG, address.host, str(address.port))


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()
