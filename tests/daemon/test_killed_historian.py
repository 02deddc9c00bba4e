"""kill -9 of the historian, and of workers: nothing is stored, confirmed or delivered twice."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.daemon.registered import PASSWORD, register
from tests.daemon.test_history import come, stored
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

FAST_RESPAWN = {
    "respawn_quick_death_seconds": 0.001,
    "respawn_backoff_min_seconds": 0.001,
    "respawn_backoff_max_seconds": 0.01,
    "respawn_max_crashes": 1_000_000,
}


def historian_pid(daemon: Daemon) -> int:
    return int(daemon.log.events(log.ATTENDANT_SPAWNED)[-1]["pid"])


def kill_historian(daemon: Daemon) -> None:
    daemon.log.expect(log.ATTENDANT_EXITED, log.ATTENDANT_THROTTLED)
    daemon.strike(historian_pid(daemon))


def talk_through_kills(daemon: Daemon, alice: LineClient, rounds: int, *, workers: bool) -> int:
    """Let alice say 50 messages to bob in each round, somebody killed in the middle of it."""
    said = 0
    for number in range(rounds):
        alice.send(*(f"CHAT bob message {said + n}" for n in range(50)))
        said += 50
        if workers and number % 2:
            daemon.kill_worker(number // 2 % 2)
        else:
            kill_historian(daemon)
    return said


def test_a_message_is_stored_confirmed_and_delivered_once_whoever_is_killed(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=2, **FAST_RESPAWN)
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    said = talk_through_kills(daemon, alice, 20, workers=True)
    for number in range(said):
        bob.expect(f"CHAT alice message {number}")
    for _ in range(said):
        alice.expect("OK CHAT bob")
    assert stored(daemon, "bob") == [f"alice message {number}" for number in range(said)]
    for client in (alice, bob):
        client.ask("PING", "OK PING")


def test_a_stored_message_arrives_once_whoever_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2, **FAST_RESPAWN)
    register(daemon, "alice", "bob")
    alice = come(daemon, "alice")
    said = talk_through_kills(daemon, alice, 10, workers=True)
    for _ in range(said):
        alice.expect("OK CHAT bob stored")
    came = 0
    while came < said:
        bob = come(daemon, "bob")
        upto = min(said, came + 70)
        kill_historian(daemon)
        for number in range(came, upto):
            bob.expect(f"CHAT alice message {number}")
            if number % 40 == 13:
                daemon.kill_worker(number % 2)
        came = upto if upto == said else said
        for number in range(upto, said):
            bob.expect(f"CHAT alice message {number}")
        bob.ask("PING", "OK PING")
        bob.leave()
    with come(daemon, "bob") as bob:
        bob.ask("PING", "OK PING")
        alice.ask("CHAT bob all there?", "OK CHAT bob")
        bob.expect("CHAT alice all there?")


def test_what_comes_while_the_historian_stands_still_is_stored_by_its_successor(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(watchdog_seconds=0.6)
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    daemon.log.expect(log.ATTENDANT_STUCK, log.ATTENDANT_EXITED, log.ATTENDANT_KILLED)
    os.kill(historian_pid(daemon), signal.SIGSTOP)
    alice.send("CHAT bob are you there?")
    bob.expect("CHAT alice are you there?")
    alice.expect("OK CHAT bob")
    assert stored(daemon, "bob") == ["alice are you there?"]


def test_a_reload_replaces_the_historian_while_people_talk(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    alice, bob = come(daemon, "alice"), come(daemon, "bob")
    alice.send(*(f"CHAT bob message {number}" for number in range(100)))
    daemon.signal(signal.SIGHUP)
    alice.send(*(f"CHAT bob message {number}" for number in range(100, 200)))
    daemon.log.wait_for(log.ATTENDANT_READY, generation=2)
    assert daemon.log.events(log.REPLACEMENT_FINISHED, reason="reload")
    for number in range(200):
        bob.expect(f"CHAT alice message {number}")
        alice.expect("OK CHAT bob")
    assert len(stored(daemon, "bob")) == 200


def test_what_was_said_at_the_very_end_is_stored(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice", "bob")
    with ExitStack() as stack:
        alice, bob = stack.enter_context(come(daemon, "alice")), come(daemon, "bob")
        alice.send(*(f"CHAT bob message {number}" for number in range(500)))
        bob.expect("CHAT alice message 0")
        daemon.signal(signal.SIGTERM)
        answers = alice.read_until("NOTE server is going down")
        until(lambda: daemon.log.has_ended, "the daemon to end")
    confirmed = sum(line == "OK CHAT bob" for line in answers)
    assert len(stored(daemon, "bob")) >= confirmed


@pytest.mark.parametrize("is_reached", [True, False])
def test_what_waits_for_a_slow_reader_is_stored_when_it_has_reached_him(
    start_daemon: StartDaemon,
    is_reached: bool,
) -> None:
    daemon = start_daemon(workers=2, limits_client_pending_bytes=65536, **FAST_RESPAWN)
    register(daemon, "alice", "bob")
    bob = daemon.connect(receive_bytes=4096)
    bob.ask(f"JOIN bob {PASSWORD}", "OK JOIN bob")
    alice, witness = come(daemon, "alice"), daemon.join("witness")
    filler = "x" * 900
    sent = 0
    outcomes: dict[str, str] = {}
    while not any(outcome.startswith("ERR CHAT BUSY") for outcome in outcomes.values()):
        alice.send(*(f"@{n} CHAT bob {n} {filler}" for n in range(sent, sent + 50)))
        sent += 50
        alice.send("CHAT witness done?")
        for answer in alice.read_until("OK CHAT witness")[:-1]:
            tag, _, outcome = answer.partition(" ")
            outcomes[tag] = outcome
        witness.expect("CHAT alice done?")
    for p_id in (0, 1):
        daemon.replace_worker(p_id)
    kill_historian(daemon)
    came: list[str] = []
    reading = threading.Thread(target=lambda: came.extend(bob.read_until("CHAT alice end")))
    if is_reached:
        reading.start()
    else:
        bob.close()
    while len(outcomes) < sent:
        tag, _, outcome = alice.read_line().partition(" ")
        if tag.startswith("@"):
            outcomes[tag] = outcome
    confirmed = {int(tag[1:]) for tag, outcome in outcomes.items() if outcome == "OK CHAT bob"}
    kept = [int(line.split(" ")[1]) for line in stored(daemon, "bob") if filler in line]
    assert sorted(kept) == sorted(confirmed)
    if is_reached:
        alice.ask("CHAT bob end", "OK CHAT bob")
        reading.join()
        numbers = [int(line.split(" ")[2]) for line in came[:-1]]
        assert sorted(numbers) == sorted(confirmed)
