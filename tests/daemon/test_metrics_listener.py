"""GET /metrics of a real daemon, as Prometheus asks for it."""

from __future__ import annotations

import os
import signal
import socket
import stat
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.cli.test_metrics import parse
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon


def start(start_daemon: StartDaemon) -> tuple[Daemon, str]:
    daemon = start_daemon(workers=2, metrics_listen="127.0.0.1:0")
    return daemon, address_of(daemon)


def address_of(daemon: Daemon) -> str:
    return str(daemon.log.wait_for(log.METRICS_OPENED)["address"])


def reach(address: str) -> socket.socket:
    """Connect to an address as the log tells it."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(address.removeprefix("unix:"))
        except OSError:
            client.close()
            raise
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)


def ask(address: str, request: bytes) -> bytes:
    """Send a request and return all of the answer."""
    with reach(address) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


def test_what_it_says_is_what_prometheus_reads(start_daemon: StartDaemon) -> None:
    daemon, address = start(start_daemon)
    daemon.join("alice")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_SECONDS) as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        found = parse(answer.read().decode())
    assert found["sessions",] == 1
    assert found["worker_ready", "0"] == found["worker_ready", "1"] == 1
    assert found["process_resident_memory_bytes", "supervisor"] > 0


def test_other_requests_are_answered_as_http_wants(start_daemon: StartDaemon) -> None:
    _, address = start(start_daemon)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{address}/", timeout=PATIENCE_SECONDS)
    head = ask(address, b"HEAD /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"\r\n\r\n")
    assert ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    assert ask(address, b"GET /" + b"x" * (8192 - 5)).startswith(b"HTTP/1.1 431 ")
    assert ask(address, b"GET /metrics\n\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_slow_and_silent_visitors_keep_nobody_waiting(start_daemon: StartDaemon) -> None:
    _, address = start(start_daemon)
    host, _, port = address.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(15)]
    try:
        silent[0].sendall(b"GET /met")
        silent[1].sendall(b"GET /metrics HTTP/1.1\r\n")
        assert b" 200 OK" in ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")
        silent[2].settimeout(PATIENCE_SECONDS)
        assert silent[2].recv(1) == b"", "it has had its time"
    finally:
        for client in silent:
            client.close()


def test_it_is_there_again_after_the_porter_was_killed(start_daemon: StartDaemon) -> None:
    daemon, _ = start(start_daemon)
    daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED)
    os.kill(daemon.log.events(log.ATTENDANT_SPAWNED, name="porter")[-1]["pid"], signal.SIGKILL)
    daemon.log.wait_for(log.METRICS_OPENED, 2)
    address = daemon.log.events(log.METRICS_OPENED)[-1]["address"]
    assert b" 200 OK" in ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")


def test_an_address_that_somebody_has_is_waited_for(start_daemon: StartDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        address = "{}:{}".format(*occupant.getsockname())
        daemon = start_daemon(workers=1, metrics_listen=address)
        daemon.log.expect(log.METRICS_FAILED)
        assert daemon.log.wait_for(log.METRICS_FAILED)["address"] == address
    assert address_of(daemon) == address
    assert b" 200 OK" in ask(address, b"GET /metrics HTTP/1.1\r\n\r\n")


def test_a_unix_socket_will_do_and_outlives_a_killed_porter(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """As a service has it that has no network."""
    path = tmp_path / "metrics"
    daemon = start_daemon(workers=1, metrics_listen=f"unix:{path}")
    assert address_of(daemon) == f"unix:{path}"
    assert ask(f"unix:{path}", b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED)
    os.kill(int(daemon.log.wait_for(log.ATTENDANT_READY, name="porter")["pid"]), signal.SIGKILL)
    daemon.log.wait_for(log.ATTENDANT_READY, name="porter", generation=2)
    until(lambda: is_answered(f"unix:{path}"), "the next porter to answer")
    assert daemon.stop() == 0
    assert not path.exists()


def is_answered(address: str) -> bool:
    try:
        return ask(address, b"GET /metrics HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    except OSError:
        return False
