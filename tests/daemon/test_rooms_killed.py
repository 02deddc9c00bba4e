"""A worker is killed: its clients stay in their rooms, and what was said arrives once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.daemon.test_rooms import enter, whos
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

PATIENT = {"threads": 1, "respawn_quick_death_seconds": 60, "respawn_backoff_min_seconds": 1}
"""A successor takes its time."""


def test_members_are_members_still_when_their_worker_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    alice, bob, carol = daemon.join("Alice", 0), daemon.join("bob", 1), daemon.join("carol", 1)
    enter("#Dev", alice, bob, carol)
    enter("#ops", bob)
    enter("#left", carol, bob)
    carol.ask("EXIT #left", "OK EXIT #left n=1")
    for p_id in (1, 0, 1):
        daemon.replace_worker(p_id)
        assert whos(alice, "#dev".replace("d", "D")) == {"Alice", "bob", "carol"}
        assert whos(carol, "#ops") == whos(carol, "#left") == {"bob"}
        talk_in_turns("#Dev", {"Alice": alice, "bob": bob, "carol": carol})
        bob.ask("CHAT #left hi", "OK CHAT #left n=0")
        carol.send("CHAT #left hi")
        carol.expect_error("CHAT", "NOTIN", "#left")


def talk_in_turns(room: str, people: dict[str, LineClient]) -> None:
    """Let each say something, and all others get it."""
    for name, person in people.items():
        person.ask(f"CHAT {room} {name} here", f"OK CHAT {room} n={len(people) - 1}")
        for other in people.values():
            if other is not person:
                other.expect(f"CHAT {room} {name} {name} here")
    for person in people.values():
        person.expect_nothing()


def test_what_is_said_while_members_have_no_worker_waits_for_the_successor(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(**PATIENT)
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 0)
    enter("#dev", alice, bob, carol)
    with daemon.stopped_worker(1):
        alice.send(*(f"@{n} CHAT #dev {n}" for n in range(100)))
        assert carol.read_lines(100) == [f"CHAT #dev alice {n}" for n in range(100)]
        daemon.kill_worker(1)
    assert bob.read_lines(100) == [f"CHAT #dev alice {n}" for n in range(100)]
    assert alice.read_lines(100) == [f"@{n} OK CHAT #dev n=2" for n in range(100)]
    for client in (alice, bob, carol):
        client.expect_nothing()


def test_a_sender_is_answered_though_his_worker_is_killed_while_others_have_yet_to_answer(
    start_daemon: StartDaemon,
) -> None:
    """His batch is pending in the record: the successor adds up."""
    daemon = start_daemon(**PATIENT)
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 0)
    enter("#dev", alice, bob, carol)
    with daemon.stopped_worker(1):
        alice.send("@1 CHAT #dev one", "CHAT #dev two")
        carol.expect("CHAT #dev alice one", "CHAT #dev alice two")
        daemon.replace_worker(0)
        alice.send("@3 CHAT #dev three")
        carol.expect("CHAT #dev alice three")
        alice.expect_nothing()
    assert bob.read_lines(3) == [f"CHAT #dev alice {text}" for text in ("one", "two", "three")]
    assert sorted(alice.read_lines(3)) == [
        "@1 OK CHAT #dev n=2",
        "@3 OK CHAT #dev n=2",
        "OK CHAT #dev n=2",
    ]
    for client in (alice, bob, carol):
        client.expect_nothing()


def test_what_was_said_to_a_worker_that_is_killed_is_carried_out_once(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(**PATIENT)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    enter("#dev", alice, bob)
    with daemon.stopped_worker(0):
        alice.send("ENTR #new", "CHAT #dev one", "EXIT #dev", "CHAT #dev two", "ENTR #dev")
        alice.send("CHAT #new echo", "CHAT #dev three")
        daemon.kill_worker(0)
    bob.expect("CHAT #dev alice one", "CHAT #dev alice three")
    lines = alice.read_lines(7)
    assert sorted(line for line in lines if not line.startswith("ERR ")) == [
        "OK CHAT #dev n=1",
        "OK CHAT #dev n=1",
        "OK CHAT #new n=0",
        "OK ENTR #dev n=2",
        "OK ENTR #new n=1",
        "OK EXIT #dev n=1",
    ]
    assert sum(line.startswith("ERR CHAT NOTIN #dev ") for line in lines) == 1
    assert whos(bob, "#new") == {"alice"}
    for client in (alice, bob):
        client.expect_nothing()


def test_a_member_who_hung_up_while_his_worker_was_dead_counts_no_more(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(**PATIENT)
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 1)
    enter("#dev", alice, bob, carol)
    with daemon.stopped_worker(1):
        daemon.kill_worker(1)
        bob.close()
        alice.send("CHAT #dev who is here?")
    carol.expect("CHAT #dev alice who is here?")
    alice.expect_match("OK CHAT #dev n=[12]")  # bob's connection may have taken it before it ended
    until(lambda: daemon.stat()["names"] == 2, "bob to be gone")
    alice.ask("CHAT #dev and now?", "OK CHAT #dev n=1")
    assert whos(alice, "#dev") == {"alice", "carol"}


@pytest.mark.parametrize("durability", ["exact", "fast"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_rooms_outlive_a_reload_and_an_upgrade(
    start_daemon: StartDaemon, number: signal.Signals, durability: str
) -> None:
    daemon = start_daemon(durability=durability)
    people = {f"p{n}": daemon.join(f"p{n}", n % 2) for n in range(4)}
    enter("#dev", *people.values())
    daemon.signal(number)
    daemon.log.wait_for(log.REPLACEMENT_FINISHED)
    talk_in_turns("#dev", people)
    assert whos(people["p0"], "#dev") == set(people)
    people["p3"].leave()
    del people["p3"]
    until(lambda: daemon.stat()["names"] == 3, "the one to be gone")
    talk_in_turns("#dev", people)


def test_rooms_outlive_a_kill_also_where_messages_may_be_lost(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(durability="fast")
    people = {f"p{n}": daemon.join(f"p{n}", n % 2) for n in range(4)}
    enter("#dev", *people.values())
    daemon.replace_worker(1)
    for name in ("p1", "p3"):
        people[name].expect_match("NOTE RESUMED: .*")
    talk_in_turns("#dev", people)


def test_answers_that_are_due_are_handed_over_in_fast_mode(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(durability="fast", threads=1)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    enter("#dev", alice, bob)
    with daemon.stopped_worker(1):
        alice.send("CHAT #dev hi")
        alice.expect_nothing()
        hand_over(daemon, 0)
    bob.expect("CHAT #dev alice hi")
    alice.expect("OK CHAT #dev n=1")


def hand_over(daemon: Daemon, p_id: int) -> None:
    """Have a worker replaced in order."""
    generation = daemon.generation(p_id)
    assert daemon.strike(daemon.worker_pid(p_id), signal.SIGTERM)
    daemon.log.wait_for(log.WORKER_READY, p_id=p_id, generation=generation + 1)
