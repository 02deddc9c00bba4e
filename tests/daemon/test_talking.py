"""JOIN, CHAT and LEAV between clients of the same worker and of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


@pytest.fixture(params=[(0, 1), (1, 0), (0, 0)], ids=["0-to-1", "1-to-0", "same-worker"])
def places(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The workers of two people who talk."""
    here, there = request.param
    return here, there


def test_two_people_talk_and_leave(daemon: Daemon, places: tuple[int, int]) -> None:
    alice, bob = daemon.join("alice", places[0]), daemon.join("bob", places[1])
    alice.say("bob", "hello, are you there?")
    bob.expect("CHAT alice hello, are you there?")
    bob.say("alice", "yes")
    alice.expect("CHAT bob yes")
    alice.leave()
    bob.send("CHAT alice bye")
    bob.expect_error("CHAT", "NOUSER", "alice")
    bob.leave()


def test_a_message_to_oneself_arrives(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    alice.send("CHAT alice note to self")
    assert sorted(alice.read_lines(2)) == ["CHAT alice note to self", "OK CHAT alice"]


def test_names_are_found_in_any_case_and_shown_as_typed(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    alice, bob = daemon.join("Alice", places[0]), daemon.join("BoB", places[1])
    for spelling in ("bob", "BOB", "BoB", "bOb"):
        alice.say(spelling, f"to {spelling}")
        bob.expect(f"CHAT Alice to {spelling}")
    bob.say("aLICE", "hi")
    alice.expect("CHAT BoB hi")
    other = daemon.connect()
    other.send("JOIN ALICE")
    other.expect_error("JOIN", "INUSE", "ALICE")


def test_everything_behind_the_space_after_the_name_is_the_message(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    alice, bob = daemon.join("alice", places[0]), daemon.join("bob", places[1])
    for message in (" two spaces", "trailing ", "tab\there", "CHAT bob CHAT", "@1 x", "ÄÖ 漢字 🙂"):
        alice.say("bob", message)
        bob.expect(f"CHAT alice {message}")


def test_a_tag_comes_back_with_the_receipt_and_does_not_reach_the_other(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    alice, bob = daemon.join("alice", places[0]), daemon.join("bob", places[1])
    alice.ask("@7 CHAT bob hi", "@7 OK CHAT bob")
    bob.expect("CHAT alice hi")
    alice.ask("@a.B-c_9 chat BOB hi", "@a.B-c_9 OK CHAT BOB")
    bob.expect("CHAT alice hi")
    alice.send("@8 CHAT carol hi")
    alice.expect_error("CHAT", "NOUSER", "carol", tag="8")
    alice.ask("@9 PING x", "@9 OK PING x")


def test_thousand_pipelined_messages_arrive_once_each_in_order(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    alice, bob = daemon.join("alice", places[0]), daemon.join("bob", places[1])
    alice.send(*(f"@{n} CHAT bob message {n}" for n in range(1000)))
    assert bob.read_lines(1000) == [f"CHAT alice message {n}" for n in range(1000)]
    assert alice.read_lines(1000) == [f"@{n} OK CHAT bob" for n in range(1000)]
    bob.expect_nothing()
    alice.expect_nothing()


def test_pipelined_lines_for_many_get_one_answer_each(daemon: Daemon) -> None:
    names = [f"friend{n}" for n in range(8)]
    friends = [daemon.join(name, n % 2) for n, name in enumerate(names)]
    alice = daemon.join("alice", 0)
    alice.send(*(f"@{name}.{n} CHAT {name} {n}" for n in range(50) for name in [*names, "nobody"]))
    answers = alice.read_lines(50 * 9)
    for name, friend in zip(names, friends, strict=True):
        assert friend.read_lines(50) == [f"CHAT alice {n}" for n in range(50)]
        assert [a for a in answers if a.endswith(f"OK CHAT {name}")] == [
            f"@{name}.{n} OK CHAT {name}" for n in range(50)
        ]
    assert sum(" ERR CHAT NOUSER nobody " in answer for answer in answers) == 50
    alice.expect_nothing()


def test_people_who_write_to_each_other_at_once_lose_nothing(daemon: Daemon) -> None:
    people = {f"p{n}": daemon.join(f"p{n}", n % 2) for n in range(6)}
    for name, client in people.items():
        client.send(*(f"CHAT {other} {name} {n}" for n in range(100) for other in people))
    for client in people.values():
        lines = client.read_lines(2 * 100 * len(people))
        for name in people:
            assert [ln for ln in lines if ln.startswith(f"CHAT {name} ")] == [
                f"CHAT {name} {name} {n}" for n in range(100)
            ]
            assert lines.count(f"OK CHAT {name}") == 100


def test_messages_to_somebody_who_has_moved_stay_in_order(
    daemon: Daemon, places: tuple[int, int]
) -> None:
    """Who has just written to a name knows where it was, and that is not where it is now."""
    alice = daemon.join("alice", places[0])
    for round_ in range(4):
        bob = daemon.join("bob", (places[1] + round_) % 2)
        for n in range(0, 50, 2):
            alice.send(f"CHAT bob {n}", f"@{n} CHAT bob {n + 1}")
        assert bob.read_lines(50) == [f"CHAT alice {n}" for n in range(50)]
        alice.read_lines(50)
        bob.leave()


def test_quiet_clients_get_errors_but_no_receipts(daemon: Daemon, places: tuple[int, int]) -> None:
    alice, bob = daemon.join("alice", places[0]), daemon.join("bob", places[1])
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.send("CHAT bob one", "CHAT nobody two", "@3 CHAT bob three")
    assert bob.read_lines(2) == ["CHAT alice one", "CHAT alice three"]
    alice.expect_error("CHAT", "NOUSER", "nobody")
    alice.expect_nothing()
    bob.say("alice", "still receiving?")
    alice.expect("CHAT bob still receiving?")


def test_quiet_may_be_asked_for_before_joining(daemon: Daemon) -> None:
    alice, bob = daemon.connect(0), daemon.join("bob", 1)
    alice.ask("HELO quiet", "OK HELO quiet")
    alice.join("alice")
    alice.send("CHAT bob hi")
    bob.expect("CHAT alice hi")
    alice.expect_nothing()
