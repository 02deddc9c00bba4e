"""What is said in a room reaches every other member once, and its sender learns how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon


def enter(room: str, *people: LineClient) -> None:
    """Let people enter a room, one after the other."""
    for person in people:
        person.send(f"ENTR {room}")
        person.expect_match(rf"OK ENTR {room} n=\d+")


def whos(client: LineClient, room: str) -> set[str]:
    """Ask who is in a room."""
    client.send(f"WHOS {room}")
    lines = client.read_until(rf"OK WHOS {room} n=\d+")
    assert lines[-1] == f"OK WHOS {room} n={len(lines) - 1}"
    return {line.removeprefix("DATA WHOS ") for line in lines[:-1]}


def test_a_message_reaches_every_other_member_once_wherever_they_are(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=3)
    people = {f"p{n}": daemon.join(f"p{n}", n % 3) for n in range(9)}
    outsider = daemon.join("outsider", 0)
    for n, person in enumerate(people.values(), start=1):
        person.ask("ENTR #dev", f"OK ENTR #dev n={n}")
    for name, person in people.items():
        person.ask(f"CHAT #dev I am {name}", "OK CHAT #dev n=8")
        for other in people.values():
            if other is not person:
                other.expect(f"CHAT #dev {name} I am {name}")
    for person in (*people.values(), outsider):
        person.expect_nothing()


def test_many_messages_at_once_keep_their_order_and_are_answered_one_by_one(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    people = [daemon.join(f"p{n}", n % 2) for n in range(4)]
    enter("#dev", *people)
    first, *others = people
    first.send(*(f"@{n} CHAT #dev {n}" for n in range(500)))
    assert {first.read_line() for _ in range(500)} == {f"@{n} OK CHAT #dev n=3" for n in range(500)}
    for other in others:
        assert other.read_lines(500) == [f"CHAT #dev p0 {n}" for n in range(500)]


def test_all_talk_at_once_and_each_gets_all_but_his_own(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    people = [daemon.join(f"p{n}", n % 2) for n in range(6)]
    enter("#dev", *people)
    for n, person in enumerate(people):
        person.send(*(f"CHAT #dev {n}.{m}" for m in range(20)))
    for n, person in enumerate(people):
        lines = person.read_lines(20 + 5 * 20)
        assert lines.count("OK CHAT #dev n=5") == 20
        for other in range(6):
            came = [line for line in lines if line.startswith(f"CHAT #dev p{other} ")]
            expected = [f"CHAT #dev p{other} {other}.{m}" for m in range(20)]
            assert came == ([] if other == n else expected)
        person.expect_nothing()


def test_a_room_is_the_same_in_any_case_and_shown_as_first_typed(daemon: Daemon) -> None:
    alice, bob = daemon.join("Alice", 0), daemon.join("bob", 1)
    alice.ask("ENTR #Dev", "OK ENTR #Dev n=1")
    bob.ask("ENTR #dEV", "OK ENTR #Dev n=2")
    bob.ask("@1 entr #DEV", "@1 OK ENTR #Dev n=2")
    alice.ask("CHAT #DEV hi", "OK CHAT #Dev n=1")
    bob.expect("CHAT #Dev Alice hi")
    bob.ask("EXIT #dev", "OK EXIT #Dev n=1")
    alice.ask("EXIT #dev", "OK EXIT #Dev n=0")
    bob.ask("ENTR #dev", "OK ENTR #dev n=1")


def test_who_is_alone_in_a_room_reaches_nobody(daemon: Daemon) -> None:
    alice = daemon.join("alice", 0)
    enter("#dev", alice)
    alice.ask("CHAT #dev echo?", "OK CHAT #dev n=0")
    alice.expect_nothing()


def test_rooms_and_their_members_are_listed(daemon: Daemon) -> None:
    alice, bob, carol = daemon.join("Alice", 0), daemon.join("bob", 1), daemon.join("carol", 1)
    alice.ask("ROOM", "OK ROOM n=0")
    alice.send("ENTR #ops", "ENTR #dev", "WHOS #dev", "ROOM")
    alice.expect("OK ENTR #ops n=1", "OK ENTR #dev n=1", "DATA WHOS Alice", "OK WHOS #dev n=1")
    alice.expect("DATA ROOM #dev n=1 in", "DATA ROOM #ops n=1 in", "OK ROOM n=2")
    enter("#dev", bob, carol)
    for client in (alice, bob, daemon.connect()):
        assert whos(client, "#dev") == {"Alice", "bob", "carol"}
        assert whos(client, "#ops") == {"Alice"}
    bob.ask("@r ROOM", "@r DATA ROOM #dev n=3 in", "@r DATA ROOM #ops n=1", "@r OK ROOM n=2")
    alice.ask("EXIT #ops", "OK EXIT #ops n=0")
    carol.ask("ROOM", "DATA ROOM #dev n=3 in", "OK ROOM n=1")


def test_who_is_not_in_a_room_is_told_so(daemon: Daemon) -> None:
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    for line, verb in (("CHAT #dev hi", "CHAT"), ("EXIT #dev", "EXIT"), ("WHOS #dev", "WHOS")):
        alice.send(f"@1 {line}")
        alice.expect_error(verb, "NOROOM", "#dev", tag="1")
    enter("#dev", bob)
    for line, verb in (("CHAT #dev hi", "CHAT"), ("EXIT #dev", "EXIT")):
        alice.send(f"@1 {line}")
        alice.expect_error(verb, "NOTIN", "#dev", tag="1")
    stranger = daemon.connect()
    for verb in ("ENTR", "EXIT"):
        stranger.send(f"{verb} #dev")
        stranger.expect_error(verb, "NOJOIN")
    bob.expect_nothing()


@pytest.mark.parametrize("way", ["EXIT", "LEAV", "close", "reset"])
def test_who_has_gone_is_no_member_any_more(daemon: Daemon, way: str) -> None:
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 1)
    enter("#dev", alice, bob, carol)
    match way:
        case "EXIT":
            bob.ask("EXIT #dev", "OK EXIT #dev n=2")
        case "LEAV":
            bob.leave()
        case "close":
            bob.close()
        case "reset":
            bob.reset()
    if way != "EXIT":
        until(lambda: daemon.stat()["names"] == 2, "bob to be gone")
    assert whos(alice, "#dev") == {"alice", "carol"}
    alice.ask("CHAT #dev who is left?", "OK CHAT #dev n=1")
    carol.expect("CHAT #dev alice who is left?")
    if way == "EXIT":
        bob.expect_nothing()


def test_all_that_is_said_before_the_end_is_answered(daemon: Daemon) -> None:
    """As `printf … | nc -N` does it."""
    alice, bob = daemon.join("alice", 0), daemon.connect()
    enter("#dev", alice)
    bob.send("JOIN bob", "ENTR #dev", "CHAT #dev one", "CHAT #dev two", "EXIT #dev")
    bob.half_close()
    assert sorted(bob.read_lines(5)) == [
        "OK CHAT #dev n=1",
        "OK CHAT #dev n=1",
        "OK ENTR #dev n=2",
        "OK EXIT #dev n=1",
        "OK JOIN bob",
    ]
    bob.expect_end()
    alice.expect("CHAT #dev bob one", "CHAT #dev bob two")


def test_a_quiet_member_gets_no_answers_and_others_get_what_he_says(daemon: Daemon) -> None:
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 0)
    enter("#dev", alice, bob, carol)
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.send("CHAT #dev psst")
    for other in (bob, carol):
        other.expect("CHAT #dev alice psst")
    alice.expect_nothing()
    alice.leave()


def test_one_who_is_in_two_rooms_gets_both(daemon: Daemon) -> None:
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 0)
    enter("#a", alice, bob, carol)
    enter("#b", alice, bob)
    for n in range(50):
        alice.send(f"CHAT #a {n}", f"CHAT bob {n}", f"CHAT #b {n}", f"CHAT carol {n}")
    lines = bob.read_lines(150)
    for start in ("CHAT #a alice", "CHAT #b alice", "CHAT alice"):
        assert [line for line in lines if line.startswith(f"{start} ")] == [
            f"{start} {n}" for n in range(50)
        ]
    assert sorted(carol.read_lines(100)) == sorted(
        f"CHAT {way} {n}" for way in ("#a alice", "alice") for n in range(50)
    )
    answers = alice.read_lines(200)
    assert answers.count("OK CHAT #a n=2") == answers.count("OK CHAT #b n=1") == 50
    assert answers.count("OK CHAT bob") == answers.count("OK CHAT carol") == 50


def test_there_are_as_many_rooms_as_configured_and_no_more(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_max_rooms=3, limits_rooms_per_client=2)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    enter("#a", alice)
    enter("#b", alice)
    alice.send("ENTR #c", "ENTR #a")
    alice.expect_error("ENTR", "FULL", "#c")
    alice.expect("OK ENTR #a n=1")
    enter("#c", bob)
    bob.send("ENTR #d")
    bob.expect_error("ENTR", "FULL", "#d")
    alice.ask("EXIT #a", "OK EXIT #a n=0")
    enter("#d", bob)
    alice.ask("ROOM", "DATA ROOM #b n=1 in", "DATA ROOM #c n=1", "DATA ROOM #d n=1", "OK ROOM n=3")


def test_a_server_may_have_no_rooms(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_max_rooms=0)
    alice = daemon.join("alice", 0)
    alice.send("ENTR #a", "CHAT #a hi", "ROOM")
    alice.expect_error("ENTR", "DENIED", "#a")
    alice.expect_error("CHAT", "NOROOM", "#a")
    alice.expect("OK ROOM n=0")


def test_rooms_come_and_go_in_the_same_places(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_max_rooms=2)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    for n in range(50):
        enter(f"#{n}", alice, bob)
        alice.ask(f"CHAT #{n} hi", f"OK CHAT #{n} n=1")
        bob.expect(f"CHAT #{n} alice hi")
        alice.ask(f"EXIT #{n}", f"OK EXIT #{n} n=1")
        bob.ask(f"EXIT #{n}", f"OK EXIT #{n} n=0")
