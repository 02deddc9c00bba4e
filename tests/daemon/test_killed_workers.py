"""A worker is killed: who was with it goes, everybody else stays, and the service goes on."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.processes import fd_count, status
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon


def test_a_killed_worker_s_names_are_free_and_its_successor_serves(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    victims = [daemon.join(f"victim{n}", 0) for n in range(5)]
    witness = daemon.join("witness", 1)
    witness.say("victim0", "hi")
    daemon.replace_worker(0)
    for victim in victims:
        victim.expect_cut()
    witness.send("CHAT victim0 hi")
    witness.expect_error("CHAT", "NOUSER", "victim0")
    witness.ask("WHOS", "DATA WHOS witness", "OK WHOS n=1")
    for n in range(5):
        returned = daemon.join(f"victim{n}", 0)
        witness.say(f"victim{n}", "welcome back")
        returned.expect("CHAT witness welcome back")
        returned.say("witness", "thanks")
        witness.expect(f"CHAT victim{n} thanks")
    assert daemon.stat()["names"] == 6


def test_others_talk_on_while_a_worker_is_killed_again_and_again(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=3, respawn_quick_death_seconds=0.001)
    alice, bob = daemon.join("alice", 1), daemon.join("bob", 2)
    supervisor_fds = fd_count(daemon.pid)
    for round_ in range(10):
        daemon.join(f"victim{round_}", 0)
        generation = daemon.generation(0)
        daemon.kill_worker(0)
        n = 0
        while not daemon.log.events(log.WORKER_READY, p_id=0, generation=generation + 1):
            alice.say("bob", f"{round_} {n}")
            bob.expect(f"CHAT alice {round_} {n}")
            bob.say("alice", "yes")
            alice.expect("CHAT bob yes")
            n += 1
        alice.send(f"CHAT victim{round_} hi")
        alice.expect_error("CHAT", "NOUSER", f"victim{round_}")
    assert fd_count(daemon.pid) == supervisor_fds
    assert status(daemon.pid).threads == 1


def test_messages_on_their_way_to_a_worker_that_is_killed_are_answered(
    start_daemon: StartDaemon,
) -> None:
    """They wait for the successor, who knows nobody of that name."""
    daemon = start_daemon(threads=1)
    alice = daemon.join("alice", 0)
    daemon.join("bob", 1)
    daemon.join("carol", 0)
    with daemon.stopped_worker(1):
        alice.send(*(f"@{n} CHAT bob {n}" for n in range(100)))
        alice.say("carol", "these are out now")
        daemon.kill_worker(1)
    for n in range(100):
        alice.expect_error("CHAT", "NOUSER", "bob", tag=f"{n}")
    alice.expect_nothing()


def test_messages_under_way_find_who_has_moved_meanwhile(start_daemon: StartDaemon) -> None:
    """Bob's worker dies with messages for him in its pair; he is elsewhere before its successor."""
    daemon = start_daemon(
        threads=1, respawn_quick_death_seconds=60, respawn_backoff_min_seconds=1, workers=3
    )
    alice = daemon.join("alice", 0)
    daemon.join("bob", 1)
    with daemon.stopped_worker(1):
        alice.send(*(f"@{n} CHAT bob {n}" for n in range(100)))
        alice.expect_nothing()
        pid = daemon.worker_pid(1)
        daemon.kill_worker(1)
    daemon.log.wait_for(log.WORKER_EXITED, pid=pid)
    bob = daemon.join("bob", 2)
    assert bob.read_lines(100) == [f"CHAT alice {n}" for n in range(100)]
    assert alice.read_lines(100) == [f"@{n} OK CHAT bob" for n in range(100)]
    bob.expect_nothing()


@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGSEGV,), (signal.SIGTERM,)])
def test_all_workers_may_be_killed_at_once(
    start_daemon: StartDaemon, signals: tuple[signal.Signals]
) -> None:
    daemon = start_daemon(workers=3)
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    if signal.SIGSEGV in signals:
        daemon.log.expect_text("")  # a stack dump is as long as it likes
    people = [daemon.join(f"p{n}", n) for n in range(3)]
    for pid in daemon.worker_pids():
        os.kill(pid, signals[0])
    for person in people:
        person.expect_cut()
    for p_id in range(3):
        daemon.log.wait_for(log.WORKER_READY, p_id=p_id, generation=2)
    alice, bob = daemon.join("p0", 1), daemon.join("p1", 2)
    alice.say("p1", "again")
    bob.expect("CHAT p0 again")
    until(lambda: daemon.stat()["names"] == 2, "the dead ones' slots to be swept")
