"""Bytes that are not quite lines: ends, splits, dirt, length, and other protocols."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import cpu_seconds

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon

# The start of a real TLS 1.3 ClientHello: record header, handshake header, version, random.
CLIENT_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(range(256)) * 2
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: chat.example\r\nUser-Agent: curl/8.5.0\r\n\r\n"
WATCHED_SECONDS = 0.5


def test_lines_may_end_in_crlf_and_come_byte_by_byte(daemon: Daemon) -> None:
    client = daemon.connect()
    for byte in "JOIN älice\r\njOiN alice\r\nPING 1\nWHOS\r\n".encode():
        client.send_bytes(bytes((byte,)))
    client.expect_error("JOIN", "BADNAME")
    client.expect("OK JOIN alice", "OK PING 1", "DATA WHOS alice", "OK WHOS n=1")


def test_empty_lines_are_ignored(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send_bytes(b"\n\r\n\n\r\nPING 1\n\n\r\n")
    client.expect("OK PING 1")
    client.expect_nothing()


def test_what_could_command_a_terminal_reaches_nobody(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    dirt = "esc \x1b[2J, nul \0, bell \a, del \x7f, csi \x9b, rlo \u202e, isolate \u2067, cr \r."
    clean = "esc ?[2J, nul ?, bell ?, del ?, csi ?, rlo ?, isolate ?, cr ?."
    alice.say("bob", dirt)
    bob.expect(f"CHAT alice {clean}")
    alice.say("bob", "a\tb")
    bob.expect("CHAT alice a\tb")


def test_separators_of_the_datagrams_cannot_be_forged(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.say("bob", "x\x1eR0 1 1\x1fOK")
    bob.expect("CHAT alice x?R0 1 1?OK")
    bob.expect_nothing()


def test_a_line_that_is_not_utf8_is_dropped_and_answered(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.send_bytes(b"CHAT bob 1\nCHAT bob \xff\xfe\nCHAT bob \xc3\n@5 CHAT bob 4\n")
    assert bob.read_lines(2) == ["CHAT alice 1", "CHAT alice 4"]
    answers = sorted(alice.read_lines(4))
    assert answers[:1] == ["@5 OK CHAT bob"]
    assert all(answer.startswith("ERR * NOTUTF8 ") for answer in answers[1:3])
    assert answers[3] == "OK CHAT bob"


def test_the_longest_line_passes_and_a_longer_one_is_answered_once(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    longest = "x" * (1024 - len("CHAT bob \n"))
    alice.say("bob", longest)
    bob.expect(f"CHAT alice {longest}")
    alice.send(f"CHAT bob {longest}x", f"CHAT bob {longest}{'y' * 40_000}", "PING 1")
    alice.expect_error("*", "TOOLONG")
    alice.expect_error("*", "TOOLONG")
    alice.expect("OK PING 1")
    bob.expect_nothing()


def test_a_line_is_known_to_be_too_long_before_it_ends(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send_bytes(b"x" * 1024)
    client.expect_error("*", "TOOLONG")
    client.send_bytes(b"x" * 1000 + b"\nPING 1\n")
    client.expect("OK PING 1")


def test_64_kib_without_a_line_end_close_the_connection(daemon: Daemon) -> None:
    client = daemon.join("alice")
    client.send_bytes(b"x" * 65535)
    client.expect_error("*", "TOOLONG")
    client.send_bytes(b"x")
    client.expect_match(r"ERR \* TOOLONG .*goodbye.*")
    client.expect_end()
    daemon.join("alice")


@pytest.mark.parametrize(
    ("request_bytes", "protocol"),
    [
        pytest.param(CLIENT_HELLO, "TLS", id="tls"),
        pytest.param(HTTP_REQUEST, "HTTP", id="http"),
        pytest.param(b"POST /x HTTP/1.1\r\n\r\nJOIN evil\n", "HTTP", id="post"),
    ],
)
def test_another_protocol_is_told_so_and_closed_and_pins_no_cpu(
    daemon: Daemon, request_bytes: bytes, protocol: str
) -> None:
    """Other servers spun on such peers for ever (ngIRCd #343): here they do not even stay."""
    clients = [daemon.connect(n % 2) for n in range(4)]
    for client in clients:
        client.send_bytes(request_bytes)
        client.expect_match(rf"ERR \* BADVERB .*not {protocol}.*")
        client.expect_end()
    assert daemon.stat()["names"] == 0
    assert cpu_share(daemon) < 0.2


def test_512_bytes_without_a_line_end_pin_no_cpu(daemon: Daemon) -> None:
    clients = [daemon.connect(n % 2) for n in range(4)]
    for client in clients:
        client.send_bytes(b"x" * 512)
    assert cpu_share(daemon) < 0.2
    for client in clients:
        client.send_bytes(b"\n")
        client.expect_error("*", "BADVERB")


def test_a_burst_that_ends_in_half_a_line_does_not_shut_its_sender_out(
    start_daemon: StartDaemon,
) -> None:
    """Half a line stays in the kernel; it must not take all the room that its client has there."""
    daemon = start_daemon(threads=1, watchdog_seconds=60)
    for odd in range(8):
        client = daemon.connect(0)
        line = b"PING".ljust(990 + odd) + b"\n"
        burst = line * 20_000
        sent = 0
        with daemon.stopped_worker(0):
            while taken := client.send_while_taken(burst[sent : sent + 65536]):
                sent += taken
        rest = -sent % len(line)
        client.send_bytes(burst[len(burst) - rest :] + b"PING done\n")
        answers = client.read_until("OK PING done")
        assert answers.count("OK PING") == (sent + rest) // len(line)
        client.close()


def cpu_share(daemon: Daemon) -> float:
    """How many CPUs the workers use while we only watch them: 0 when all sleep."""
    pids = daemon.worker_pids()
    before, start = cpu_seconds(pids), time.monotonic()
    time.sleep(WATCHED_SECONDS)
    return (cpu_seconds(pids) - before) / (time.monotonic() - start)
