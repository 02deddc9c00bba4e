"""The end of the daemon, and signals that are not the end."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness import processes

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon

NOTE = "NOTE server is going down"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clients_are_told_before_the_server_goes(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    daemon = start_daemon()
    people = [daemon.join(f"p{n}", n % 2) for n in range(6)]
    people.append(daemon.connect())
    daemon.signal(number)
    for person in people:
        person.expect(NOTE)
        person.expect_end()
    assert daemon.wait() == 0
    assert not daemon.log.events(log.WORKER_KILLED)


def test_what_was_under_way_is_delivered_and_answered_before_the_end(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(threads=1)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.send(*(f"CHAT bob {n}" for n in range(500)), "PING all.read")
    answers = alice.read_until("OK PING all.read")
    daemon.signal(signal.SIGTERM)
    came = bob.read_until(NOTE)
    answers += alice.read_until(NOTE) if NOTE not in answers else []
    while len(came) < 501:
        came.append(bob.read_line())
    while len(answers) < 502:
        answers.append(alice.read_line())
    assert sorted(came) == sorted([NOTE, *(f"CHAT alice {n}" for n in range(500))])
    assert answers.count("OK CHAT bob") == 500
    assert daemon.wait() == 0


@pytest.mark.parametrize("turn_lock", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_quickly(
    start_daemon: StartDaemon, number: signal.Signals, turn_lock: bool
) -> None:
    """Idle threads of others never woke (uwsgi #2653)."""
    daemon = start_daemon(workers=3, threads=3, turn_lock=turn_lock)
    for n in range(3):
        daemon.join(f"p{n}", n)
    start = time.monotonic()
    daemon.signal(number)
    assert daemon.wait() == 0
    assert time.monotonic() - start < 2.0
    assert not daemon.log.events(log.WORKER_KILLED)


def test_a_worker_ends_when_its_loops_do_and_does_not_only_look_now_and_then(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(program="tests.daemon.drowsy", watchdog_seconds=3600)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    daemon.signal(signal.SIGHUP)
    daemon.log.wait_for(log.REPLACEMENT_FINISHED)
    alice.say("bob", "hi")
    bob.expect("CHAT alice hi")
    assert daemon.stop() == 0
    assert not daemon.log.events(log.WORKER_KILLED)


def test_a_daemon_without_clients_waits_for_nothing(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(program="tests.daemon.never_quiet", stop_seconds=3600)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.say("bob", "hi")
    bob.expect("CHAT alice hi")
    for person in (alice, bob):
        person.leave()
    assert daemon.stop() == 0
    assert not daemon.log.events(log.WORKER_KILLED)


def test_a_second_signal_ends_it_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(stop_seconds=60, watchdog_seconds=60)
    daemon.log.expect(log.WORKER_KILLED)
    people = [daemon.connect(worker) for worker in (0, 1)]
    with daemon.objects.held("write"):  # so that no worker can end in order
        for n, person in enumerate(people):
            person.send(f"JOIN p{n}")
        daemon.signal(signal.SIGINT)
        daemon.log.wait_for(log.SUPERVISOR_STOPPING)
        assert {*daemon.worker_pids()} < {*processes.living_group(daemon.pid)}
        start = time.monotonic()
        daemon.signal(signal.SIGINT)
        assert daemon.wait() == 0
        assert time.monotonic() - start < 2.0
    assert len(daemon.log.events(log.WORKER_KILLED)) == 2


def test_a_client_that_does_not_read_cannot_hold_up_the_end(start_daemon: StartDaemon) -> None:
    stop_seconds = 2.0
    daemon = start_daemon(stop_seconds=stop_seconds)
    alice = daemon.join("alice", 0)
    daemon.join("bob", 1, receive_bytes=2048)
    n = 0
    while daemon.stat()["refused"] == 0:
        alice.send(*(f"@{n} CHAT bob {'x' * 900}" for n in range(n, n + 500)))
        n += 500
    start = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - start < stop_seconds + 1.0


def test_signals_that_are_meant_for_the_supervisor_do_workers_no_harm(
    start_daemon: StartDaemon,
) -> None:
    """`pkill -HUP` reaches workers too (gunicorn #1868), and Ctrl-C the whole foreground group."""
    daemon = start_daemon()
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    before = daemon.worker_pids()
    harmless = (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGTTIN,
        signal.SIGTTOU,
    )
    for number in harmless:
        for pid in before:
            os.kill(pid, number)
        alice.say("bob", number.name)
        bob.expect(f"CHAT alice {number.name}")
    assert daemon.worker_pids() == before
    assert not [pid for pid in before if processes.status(pid).state == "T"]


def test_a_reload_replaces_every_worker_and_nobody_notices(start_daemon: StartDaemon) -> None:
    """Sent to the whole group, as `pkill -HUP` does."""
    daemon = start_daemon()
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    before = daemon.worker_pids()
    bob.send_bytes(b"CHAT alice half a ")
    os.killpg(daemon.pid, signal.SIGHUP)
    n = 0
    while not daemon.log.events(log.REPLACEMENT_FINISHED):
        alice.say("bob", f"{n}")
        bob.expect(f"CHAT alice {n}")
        n += 1
    bob.send_bytes(b"line\n")
    bob.expect("OK CHAT alice")
    alice.expect("CHAT bob half a line")
    assert not set(daemon.worker_pids()) & set(before)
    for person in (alice, bob):
        person.expect_nothing()


def test_ctrl_c_in_the_terminal_ends_it_in_order(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    alice = daemon.join("alice", 0)
    os.killpg(daemon.pid, signal.SIGINT)
    alice.expect(NOTE)
    alice.expect_end()
    assert daemon.wait() == 0


def test_workers_notice_within_a_second_that_the_supervisor_was_killed(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    alice = daemon.join("alice", 0)
    start = time.monotonic()
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    assert time.monotonic() - start < 1.0
    alice.expect_cut()
    existing = daemon.objects.existing()
    assert existing == {"semaphore accept 0", "semaphore write 0", "board"}, "nobody could"
    # The next daemon of that directory removes what it left, and leaves nothing itself.
    successor = start_daemon(runtime_dir=str(daemon.directory))
    assert len(successor.log.events(log.LEFTOVER_REMOVED)) == 2
    successor.join("alice")
