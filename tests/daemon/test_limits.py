"""When something runs out: places for clients, and file descriptors."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from prefork_chat.worker.acceptor import PAUSE_SECONDS
from tests.harness.client import LineClient
from tests.harness.processes import continue_process, fd_count, stop_process
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_server_says_so_and_takes_the_next_when_one_has_gone(
    start_daemon: StartDaemon, workers: int
) -> None:
    daemon = start_daemon(max_clients=4, workers=workers)
    inside = [daemon.join(f"p{n}") for n in range(4)]
    for _ in range(3):
        with LineClient.connect(daemon.addresses[0]) as outside:
            outside.expect_error("HELO", "FULL")
            outside.expect_end()
    inside[0].ask("CHAT p3 still here?", "OK CHAT p3")
    inside[1].leave()
    until(lambda: is_let_in(daemon), "a place to be free")


def test_of_a_crowd_that_comes_at_once_as_many_are_let_in_as_there_are_places(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(max_clients=4, workers=1)
    stop_process(daemon.worker_pid(0))
    crowd = [LineClient.connect(daemon.addresses[0]) for _ in range(10)]
    continue_process(daemon.worker_pid(0))
    first_lines = [client.read_line() for client in crowd]
    assert sum(line.startswith("OK HELO") for line in first_lines) == 4
    for line, client in zip(first_lines, crowd, strict=True):
        if not line.startswith("OK HELO"):
            assert line.startswith("ERR HELO FULL")
            client.expect_end()
        client.close()
    until(lambda: is_let_in(daemon), "a place to be free")


def is_let_in(daemon: Daemon) -> bool:
    with LineClient.connect(daemon.addresses[0]) as client:
        return client.read_line().startswith("OK HELO")


def test_running_out_of_descriptors_pauses_accepting_until_there_are_some(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(threads=1)
    daemon.log.expect(log.ACCEPT_PAUSED)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    pids = daemon.worker_pids()
    for pid in pids:
        limit = fd_count(pid) + 3
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    crowd = [LineClient.connect(daemon.addresses[0]) for _ in range(8)]
    for pid in pids:
        daemon.log.wait_for(log.ACCEPT_PAUSED, pid=pid)
    # Who is inside does not notice, those in front of the door wait, and it is said only once.
    deadline = time.monotonic() + 2.2 * PAUSE_SECONDS
    while time.monotonic() < deadline:
        alice.say("bob", "plenty of room here")
        bob.expect("CHAT alice plenty of room here")
    assert len(daemon.log.events(log.ACCEPT_PAUSED)) == len(pids)
    assert not daemon.log.events(log.ACCEPT_RESUMED)
    for client in crowd[:6]:
        client.expect_greeting()
        client.close()
    for client in crowd[6:]:
        client.expect_greeting()
        client.close()
    daemon.log.wait_for(log.ACCEPT_RESUMED)
    until(lambda: daemon.stat()["clients"] == 3, "all others to go")
