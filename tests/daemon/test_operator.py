"""What the operator can do to people, by the console's lines, at a real daemon."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.client import LineClient
from tests.harness.console import Console
from tests.harness.processes import stop_process
from tests.harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon

DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"


QUICK = {
    "respawn_quick_death_seconds": 0.001,
    "respawn_backoff_min_seconds": 0.01,
    "respawn_backoff_max_seconds": 0.02,
}


@pytest.fixture
def console(daemon: Daemon) -> Iterator[Console]:
    """A console of the common daemon, which has no bans before and after."""
    with Console(daemon.directory) as console:
        yield console
        bans = daemon.directory.parent / "state" / "bans.jsonl"
        bans.unlink(missing_ok=True)


def test_a_text_goes_to_everybody_once(daemon: Daemon, console: Console) -> None:
    people = [daemon.join(f"person{number}", number % 2) for number in range(6)]
    newcomer = daemon.connect()
    console.ask("lunch is ready, à table", "-- told 7 people")
    for person in [*people, newcomer]:
        person.expect("NOTE <operator> lunch is ready, à table")
        person.expect_nothing()


def test_a_text_that_begins_with_a_slash_has_two(daemon: Daemon, console: Console) -> None:
    alice = daemon.join("alice")
    console.ask("//tmp is full", "-- told 1 person")
    alice.expect("NOTE <operator> /tmp is full")


def test_a_text_for_one_reaches_nobody_else(daemon: Daemon, console: Console) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("Bob", 1)
    console.ask("/to BOB psst", "-- told bob")
    bob.expect("NOTE <operator> psst")
    alice.expect_nothing()
    console.ask("/to carol psst", "prefork-chat: nobody named carol is here")


def test_what_could_command_a_terminal_reaches_nobody(daemon: Daemon, console: Console) -> None:
    alice = daemon.join("alice")
    console.ask("red \x1b[31m alert\x9b\u202e!", "-- told 1 person")
    alice.expect("NOTE <operator> red ?[31m alert??!")


def test_a_kicked_client_is_told_why_and_may_come_again(daemon: Daemon, console: Console) -> None:
    alice = daemon.join("alice", 0)
    bob = daemon.join("bob", 1)
    console.ask("/kick Alice take a walk", "-- kicked alice")
    alice.expect("ERR * DENIED the operator has closed this connection: take a walk")
    alice.expect_end()
    bob.send("CHAT alice are you there?")
    bob.expect_error("CHAT", "NOUSER", "alice")
    daemon.join("alice").leave()
    console.ask("/kick alice", "prefork-chat: nobody named alice is here")


def test_what_a_muted_client_says_is_refused_until_it_is_unmuted(
    daemon: Daemon, console: Console
) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    alice.say("bob", "one")
    console.ask("/mute alice", "-- muted alice")
    alice.expect("NOTE the operator has muted you")
    alice.send("CHAT bob two", "@7 CHAT bob three", "PING still.there")
    alice.expect_error("CHAT", "DENIED", "bob")
    alice.expect_error("CHAT", "DENIED", "bob", tag="7")
    alice.expect("OK PING still.there")
    bob.expect("CHAT alice one")
    bob.say("alice", "cat got your tongue?")
    alice.expect("CHAT bob cat got your tongue?")
    console.ask("/unmute alice", "-- unmuted alice")
    alice.expect("NOTE the operator lets you speak again")
    alice.say("bob", "four")
    bob.expect("CHAT alice four")
    console.ask("/unmute alice", "prefork-chat: alice is not muted")


def test_a_mute_ends_by_itself(daemon: Daemon, console: Console) -> None:
    alice, bob = daemon.join("alice"), daemon.join("bob")
    console.ask("/mute alice 1s too loud", f"-- muted alice until {DATE}: too loud")
    alice.expect_match(f"NOTE the operator has muted you until {DATE}: too loud")

    def is_heard() -> bool:
        alice.send("CHAT bob am I heard?")
        return alice.read_line() == "OK CHAT bob"

    assert not is_heard()
    until(is_heard, "the second to be over")
    bob.expect("CHAT alice am I heard?")


def test_a_mute_is_not_shaken_off_by_coming_again(daemon: Daemon, console: Console) -> None:
    daemon.join("bob")
    console.ask("/mute alice 10", f"-- muted alice until {DATE}; not here just now")
    alice = daemon.join("alice")
    alice.send("CHAT bob it is me")
    alice.expect_error("CHAT", "DENIED", "bob")


def test_a_mute_holds_when_its_worker_is_killed(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1)
    alice, bob = daemon.join("alice"), daemon.join("bob")
    with Console(daemon.directory) as console:
        console.ask("/mute alice", "-- muted alice")
        daemon.replace_worker(0)
        alice.expect("NOTE the operator has muted you")
        alice.send("CHAT bob hello")
        alice.expect_error("CHAT", "DENIED", "bob")
        console.ask("/unmute alice", "-- unmuted alice")
        alice.expect("NOTE the operator lets you speak again")
        daemon.replace_worker(0)
        alice.say("bob", "hello again")
        bob.expect("CHAT alice hello again")


def test_a_banned_name_is_closed_and_cannot_be_taken(daemon: Daemon, console: Console) -> None:
    mallory = daemon.join("Mallory")
    console.ask("/ban mallory 1h spam", f"-- banned mallory until {DATE}: spam; 1 connection.*")
    mallory.expect_match(rf"ERR \* DENIED the operator has banned you until {DATE}: spam")
    mallory.expect_end()
    again = daemon.connect()
    again.send("@1 JOIN MALLORY", "JOIN mallory2")
    again.expect_match(rf"@1 ERR JOIN DENIED the operator has banned MALLORY until {DATE}: spam")
    again.expect("OK JOIN mallory2")
    console.ask("/unban mallory", "-- unbanned mallory")
    daemon.join("mallory")
    console.ask("/unban mallory", "prefork-chat: mallory is not banned")


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.0/8"])
def test_a_banned_address_is_turned_away_at_the_door(
    daemon: Daemon, console: Console, target: str
) -> None:
    nobody, alice = daemon.connect(), daemon.join("alice")
    console.ask(f"/ban {target} 5m not today", f"-- banned {target} until .*; 2 connections closed")
    for client in (nobody, alice):
        client.expect_match(rf"ERR \* DENIED the operator has banned you until {DATE}: not today")
        client.expect_end()
    with LineClient.connect(daemon.addresses[0]) as newcomer:
        newcomer.expect_match(
            rf"ERR HELO DENIED the operator has banned this address until {DATE}: not today"
        )
        newcomer.expect_end()
    console.ask(f"/unban {target}", f"-- unbanned {target}")
    daemon.join("alice")


def test_a_ban_of_an_address_is_not_about_a_unix_socket(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(listen=["127.0.0.1:0", "unix:chat.sock"])
    local = daemon.connect(address=daemon.addresses[1])
    with Console(daemon.directory) as console:
        console.ask("/ban 0.0.0.0/0", r"-- banned 0.0.0.0/0")
        local.join("alice")
        daemon.connect(address=daemon.addresses[1]).join("bob")
        console.ask("/ban alice", "-- banned alice; 1 connection closed")
        local.expect("ERR * DENIED the operator has banned you")


def test_a_ban_ends_by_itself(daemon: Daemon, console: Console) -> None:
    console.ask("/ban mallory 1s", "-- banned mallory until .*")
    client = daemon.connect()

    def may_join() -> bool:
        client.send("JOIN mallory")
        return client.read_line() == "OK JOIN mallory"

    assert not may_join()
    until(may_join, "the second to be over")
    console.ask("/bans", "nobody is banned or muted")


def test_bans_hold_after_a_restart_and_are_listed(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = tmp_path / "kept" / "here"
    first = start_daemon(state_dir=state)
    with Console(first.directory) as console:
        console.ask("/ban mallory", "-- banned mallory")
        console.ask("/ban 192.0.2.0/24 2d scanners", "-- banned 192.0.2.0/24 until .*")
        console.ask("/mute eve 5", "-- muted eve until .*")
    first.finish()
    assert (state / "bans.jsonl").stat().st_mode & 0o777 == 0o600
    second = start_daemon(state_dir=state)
    client = second.connect()
    client.send("JOIN mallory")
    client.expect_error("JOIN", "DENIED")
    with Console(second.directory) as console:
        console.type("/bans")
        console.finish()
        assert [line.split()[:2] for line in console.lines] == [
            ["ban", "192.0.2.0/24"],
            ["ban", "mallory"],
            ["mute", "eve"],
        ]


def test_a_file_of_bans_that_cannot_be_read_changes_nothing_and_is_told(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "bans.jsonl").write_text("this is no ban\n")
    daemon = start_daemon(workers=1, state_dir=state)
    daemon.log.expect("bans.unreadable")
    daemon.join("alice").leave()
    daemon.log.wait_for("bans.unreadable", file=str(state / "bans.jsonl"))
    with Console(daemon.directory) as console:
        console.ask("/ban mallory", "prefork-chat: that failed: .*")
        assert console.finish() == 1
    assert (state / "bans.jsonl").read_text() == "this is no ban\n"


def test_who_is_here_is_listed_with_addresses(daemon: Daemon, console: Console) -> None:
    alice = daemon.join("Alice")
    daemon.connect()
    console.ask("/mute alice 1", "-- muted alice until .*")
    console.ask("/who", "1 here, and 1 without a name")
    host, port = alice.socket.getsockname()[:2]
    assert f"Alice  {host}:{port}  (muted)" in console.lines


def test_a_muted_client_is_not_heard_in_rooms_either(daemon: Daemon, console: Console) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    for number, person in enumerate((alice, bob), start=1):
        person.ask("ENTR #Tea", f"OK ENTR #Tea n={number}")
    console.ask("/rooms", "#Tea  2")
    console.ask("/mute alice", "-- muted alice")
    alice.expect("NOTE the operator has muted you")
    alice.send("CHAT #tea I am here, too")
    alice.expect_error("CHAT", "DENIED", "#tea")
    bob.ask("CHAT #tea is anybody here?", "OK CHAT #Tea n=1")
    alice.expect("CHAT #Tea bob is anybody here?")
    console.ask("/kick alice", "-- kicked alice")
    until(lambda: _members(bob) == ["bob"], "alice to be gone from the room")
    bob.expect_nothing()


def _members(client: LineClient) -> list[str]:
    client.send("WHOS #tea")
    return [line.split()[-1] for line in client.read_until(r"OK WHOS .*")[:-1]]


def test_a_worker_that_dies_before_it_answers_has_its_successor_say_so(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(program="tests.daemon.silenced", workers=1, threads=1, **QUICK)
    daemon.log.expect("worker.exited")
    alice, bob = daemon.join("alice"), daemon.join("bob")
    with Console(daemon.directory) as console:
        console.ask("hello", "-- told 0 people and those of a worker that was killed just then")
        assert daemon.generation(0) == 2
        console.ask("/kick bob", "-- kicked bob")
    bob.read_until(r"ERR \* DENIED .*")
    alice.expect("NOTE <operator> hello")
    alice.expect_nothing()


def test_a_kick_that_could_not_be_answered_is_told_with_care(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(program="tests.daemon.silenced", workers=1, threads=1, **QUICK)
    daemon.log.expect("worker.exited")
    alice = daemon.join("alice")
    with Console(daemon.directory) as console:
        console.ask("/kick alice", "-- kicked alice, if here: a worker was killed just then")
        console.ask("/kick alice", "prefork-chat: nobody named alice is here")
    alice.expect("ERR * DENIED the operator has closed this connection")
    alice.expect_end()


def test_a_stuck_worker_has_its_successor_answer(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2, watchdog_seconds=0.6, **QUICK)
    daemon.log.expect("worker.stuck", "worker.exited", "worker.killed")
    daemon.log.expect_text(".*")
    people = [daemon.join("alice", 0), daemon.join("bob", 1)]
    with Console(daemon.directory) as console:
        stop_process(daemon.worker_pid(1))
        console.ask("is anybody asleep?", "-- told 2 people")
    for person in people:
        person.expect("NOTE <operator> is anybody asleep?")
        person.expect_nothing()


@pytest.mark.slow
def test_no_kill_of_a_worker_loses_or_doubles_a_note(start_daemon: StartDaemon) -> None:
    """A worker is killed at random moments while the operator speaks again and again."""
    daemon = start_daemon(workers=2, **QUICK)
    people = [daemon.join(f"person{number}", number % 2) for number in range(8)]
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    is_over = threading.Event()

    def kill_workers() -> None:
        while not is_over.wait(rng.uniform(0.02, 0.15)):
            daemon.strike(rng.choice(daemon.worker_pids()))

    killer = threading.Thread(target=kill_workers)
    with Console(daemon.directory) as console:
        killer.start()
        try:
            deadline = time.monotonic() + 4
            notes = 0
            while time.monotonic() < deadline:
                notes += 1
                console.ask(f"note {notes}", r"-- told \d (person|people).*")
        finally:
            is_over.set()
            killer.join()
        assert not console.complaints, (seed, console.complaints)
    expected = [f"NOTE <operator> note {number}" for number in range(1, notes + 1)]
    for person in people:
        assert _hear_out(person) == expected, f"seed {seed}"


@pytest.mark.slow
def test_no_kill_of_a_worker_forgives_a_kick(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1, **QUICK)
    with Console(daemon.directory) as console:
        for number in range(15):
            client = daemon.join(f"person{number}")
            console.type(f"/kick person{number}")
            time.sleep(0.002 * number / 3)  # a kill somewhere around it, which is the point
            daemon.replace_worker(0)
            client.expect("ERR * DENIED the operator has closed this connection")
            client.expect_end()
        assert console.finish() == 0, console.complaints


def _hear_out(client: LineClient) -> list[str]:
    client.send("PING that.is.all")
    return client.read_until("OK PING that.is.all")[:-1]
