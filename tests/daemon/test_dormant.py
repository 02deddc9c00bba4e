"""Who has said nothing since his worker was killed is there for everybody who looks for him."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.console import Console
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

SLEEPERS = 6
WAKER = 1


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(respawn_quick_death_seconds=0.001, respawn_backoff_min_seconds=0.001)


@pytest.fixture
def sleepers(daemon: Daemon) -> list[LineClient]:
    """Clients who have been silent through two deaths of their worker."""
    people = [daemon.join(f"Sleeper{n}", 0) for n in range(SLEEPERS)]
    for _ in range(2):
        daemon.replace_worker(0)
    return people


def test_they_are_spoken_to_in_any_letters(daemon: Daemon, sleepers: list[LineClient]) -> None:
    alice = daemon.join("alice", WAKER)
    for n, sleeper in enumerate(sleepers):
        name = f"SLEEPER{n}" if n % 2 else f"Sleeper{n}"
        for message in ("wake up", "now"):
            alice.say(name, message)
            sleeper.expect(f"CHAT alice {message}")
        sleeper.say("alice", "good morning")
        alice.expect(f"CHAT Sleeper{n} good morning")
        sleeper.expect_nothing()


def test_they_speak_to_each_other(daemon: Daemon, sleepers: list[LineClient]) -> None:
    for n, sleeper in enumerate(sleepers):
        other = (n + 1) % SLEEPERS
        sleeper.say(f"Sleeper{other}", "psst")
        sleepers[other].expect(f"CHAT Sleeper{n} psst")
    daemon.join("newcomer", 0).say("sleeper0", "hi")
    sleepers[0].expect("CHAT newcomer hi")


def test_they_count_and_keep_their_names(daemon: Daemon, sleepers: list[LineClient]) -> None:
    assert len(sleepers) == SLEEPERS
    assert daemon.stat()["names"] == SLEEPERS
    until(lambda: daemon.stat()["clients"] == SLEEPERS + 1, "all of them, and whoever asks")
    thief = daemon.connect()
    thief.send("JOIN sleeper0")
    thief.expect_error("JOIN", "INUSE", "sleeper0")


def test_they_hang_up_and_leave_nothing_behind(daemon: Daemon, sleepers: list[LineClient]) -> None:
    for sleeper in sleepers[1:]:
        sleeper.close()
    until(lambda: daemon.stat()["names"] == 1, "the names of those who are gone to be free")
    daemon.join("sleeper1", 0).say("sleeper0", "hi")
    sleepers[0].expect("CHAT sleeper1 hi")


def test_answers_reach_who_has_asked_and_then_been_silent(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", WAKER)
    with daemon.stopped_worker(WAKER):
        alice.send("@1 CHAT bob are you there?", "PING sent")
        alice.expect("OK PING sent")
        for _ in range(3):  # so that no record names her any more
            daemon.replace_worker(0)
    alice.expect("@1 OK CHAT bob")
    bob.expect("CHAT alice are you there?")
    alice.expect_nothing()


def test_the_operator_reaches_them(daemon: Daemon, sleepers: list[LineClient]) -> None:
    with Console(daemon.directory) as console:
        console.ask("/to sleeper0 psst", "-- told sleeper0")
        console.ask("lunch is ready", f"-- told {SLEEPERS} people")
    sleepers[0].expect("NOTE <operator> psst")
    for sleeper in sleepers:
        sleeper.expect("NOTE <operator> lunch is ready")
        sleeper.expect_nothing()


def test_they_are_told_of_the_end(daemon: Daemon, sleepers: list[LineClient]) -> None:
    assert daemon.stop() == 0
    for sleeper in sleepers:
        sleeper.expect("NOTE server is going down")
        sleeper.expect_end()


def test_they_move_to_other_workers(daemon: Daemon) -> None:
    sleepers = [daemon.join(f"Sleeper{n}", 1) for n in range(SLEEPERS)]
    daemon.replace_worker(1)
    daemon.signal(signal.SIGTTOU)
    daemon.log.wait_for(log.WORKER_EXITED, p_id=1, meaning="left")
    alice = daemon.join("alice", 0)
    for n, sleeper in enumerate(sleepers):
        assert daemon.worker_of(sleeper) == 0
        alice.say(f"sleeper{n}", "wake up")
        sleeper.expect("CHAT alice wake up")
        sleeper.expect_nothing()


def test_they_may_be_quiet_and_at_a_unix_socket(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(listen=["127.0.0.1:0", f"unix:{tmp_path}/chat"])
    address = next(address for address in daemon.addresses if address.family == "unix")
    sleeper = daemon.connect(address=address)
    sleeper.join("sleeper")
    sleeper.ask("HELO quiet", "OK HELO quiet")
    for _ in range(2):
        daemon.replace_worker(0)
        daemon.replace_worker(1)
    alice = daemon.join("alice")
    alice.say("sleeper", "wake up")
    sleeper.expect("CHAT alice wake up")
    sleeper.send("CHAT alice good morning")
    alice.expect("CHAT sleeper good morning")
    sleeper.expect_nothing()
