"""A worker ends in order and its successor takes over: nothing is lost, whatever the durability.

SIGTERM to a worker, from anybody but the supervisor, asks for that.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

TINY_BYTES = 2048
LONG = "x" * 900


@pytest.fixture(params=["exact", "fast"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["tcp", "unix"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Lone:
    """A daemon with one worker of one loop, which listens at both kinds of sockets."""

    def __init__(self, start_daemon: StartDaemon, tmp_path: Path, durability: str) -> None:
        self.daemon: Daemon = start_daemon(
            workers=1,
            threads=1,
            durability=durability,
            listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"],
            respawn_quick_death_seconds=0.001,
        )

    def connect(self, family: str, receive_bytes: int = 0) -> LineClient:
        address = self.daemon.addresses[family == "unix"]
        return self.daemon.connect(address=address, receive_bytes=receive_bytes)

    def join(self, name: str, family: str, receive_bytes: int = 0) -> LineClient:
        client = self.connect(family, receive_bytes)
        client.join(name)
        return client

    def hand_over(self) -> None:
        """Have the worker replaced in order, and wait for its successor."""
        generation = self.daemon.generation(0)
        os.kill(self.daemon.worker_pid(0), signal.SIGTERM)
        ended = self.daemon.log.wait_for(log.WORKER_EXITED, p_id=0, generation=generation)
        assert ended["how"] == "exit 0"
        self.daemon.log.wait_for(log.WORKER_READY, p_id=0, generation=generation + 1)


@pytest.fixture
def lone(start_daemon: StartDaemon, tmp_path: Path, durability: str) -> Lone:
    return Lone(start_daemon, tmp_path, durability)


def test_people_talk_on_as_if_nothing_had_happened(lone: Lone, family: str) -> None:
    alice, bob = lone.join("alice", family), lone.join("bob", family)
    for n in range(3):
        alice.say("bob", f"{n}")
        bob.expect(f"CHAT alice {n}")
        lone.hand_over()
    for client in (alice, bob):
        client.expect_nothing()
    assert lone.daemon.stat()["names"] == 2
    alice.leave()
    bob.send("CHAT alice gone?")
    bob.expect_error("CHAT", "NOUSER", "alice")


def test_half_a_line_is_completed_at_the_successor(lone: Lone, family: str) -> None:
    alice, bob = lone.join("alice", family), lone.join("bob", family)
    alice.send_bytes(b"PING 1\nCHAT bob in ")
    alice.expect("OK PING 1")  # so the rest has been looked at
    for word in (b"three ", b"or ", b"more ", b"parts\n"):
        lone.hand_over()
        alice.send_bytes(word)
    bob.expect("CHAT alice in three or more parts")
    alice.expect("OK CHAT bob")
    alice.expect_nothing()


def test_a_line_that_is_too_long_is_answered_once(lone: Lone, family: str) -> None:
    alice = lone.join("alice", family)
    alice.send_bytes(b"x" * 2000)
    alice.expect_error("*", "TOOLONG")
    lone.hand_over()
    alice.send_bytes(b"x" * 2000 + b"\nPING 1\n")
    alice.expect("OK PING 1")


def test_who_has_not_joined_may_do_so_later(lone: Lone, family: str) -> None:
    stranger = lone.connect(family)
    stranger.ask("HELO quiet", "OK HELO quiet")
    lone.hand_over()
    stranger.expect_nothing()
    stranger.join("stranger")
    bob = lone.join("bob", family)
    stranger.send("CHAT bob hi")
    bob.expect("CHAT stranger hi")
    stranger.expect_nothing()  # it is still quiet


def test_a_slow_reader_gets_all_that_he_is_owed(lone: Lone, family: str) -> None:
    """And a sender hears of each of his messages once, when the kernel has it."""
    alice, bob = lone.join("alice", family), lone.join("bob", family, TINY_BYTES)
    sent = 0
    answers: list[str] = []
    while len(answers) + 20 > sent:  # until some are held back
        alice.send(*(f"@{n} CHAT bob {n} {LONG}" for n in range(sent, sent + 50)), f"PING {sent}")
        sent += 50
        answers += alice.read_until(f"OK PING {sent - 50}")[:-1]
    assert not [answer for answer in answers if "OK" not in answer]
    lone.hand_over()
    for n in range(sent // 2):
        bob.expect(f"CHAT alice {n} {LONG}")
    lone.hand_over()
    alice.send(f"@{sent} CHAT bob {sent} {LONG}")
    for n in range(sent // 2, sent + 1):
        bob.expect(f"CHAT alice {n} {LONG}")
    answers += alice.read_lines(sent + 1 - len(answers))
    assert answers == [f"@{n} OK CHAT bob" for n in range(sent + 1)]
    for client in (alice, bob):
        client.expect_nothing()
    assert not list((lone.daemon.directory / "spill").iterdir())


def test_who_is_leaving_gets_the_last_answers_and_goes(lone: Lone, family: str) -> None:
    """Bob does not read: alice, who has said LEAV, waits for the receipt of her last message."""
    alice, bob = lone.join("alice", family), lone.join("bob", family, TINY_BYTES)
    sent, answered = 0, 0
    while answered + 20 > sent:
        alice.send(*(f"CHAT bob {n} {LONG}" for n in range(sent, sent + 50)), f"PING {sent}")
        sent += 50
        answered += len(alice.read_until(f"OK PING {sent - 50}")) - 1
    alice.send("LEAV", "PING too.late")
    lone.connect(family).expect_nothing()  # so LEAV has been read
    lone.hand_over()
    for n in range(sent):
        bob.expect(f"CHAT alice {n} {LONG}")
    assert alice.read_lines(sent - answered) == ["OK CHAT bob"] * (sent - answered)
    alice.expect("OK LEAV")
    alice.expect_end()
    until(lambda: lone.daemon.stat()["names"] == 1, "alice's name to be free")


def test_messages_between_workers_that_are_replaced_in_turns_arrive_once_in_order(
    start_daemon: StartDaemon, durability: str
) -> None:
    daemon = start_daemon(
        workers=2, threads=2, durability=durability, respawn_quick_death_seconds=0.001
    )
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    count = 0
    for turn in range(6):
        p_id, generation = turn % 2, daemon.generation(turn % 2)
        os.kill(daemon.worker_pid(p_id), signal.SIGTERM)
        while not daemon.log.events(log.WORKER_READY, p_id=p_id, generation=generation + 1):
            alice.send(*(f"@{n} CHAT bob {n}" for n in range(count, count + 50)))
            count += 50
            if count > 50 * 2:
                for n in range(count - 150, count - 100):
                    bob.expect(f"CHAT alice {n}")
                    alice.expect(f"@{n} OK CHAT bob")
    for n in range(max(0, count - 100), count):
        bob.expect(f"CHAT alice {n}")
        alice.expect(f"@{n} OK CHAT bob")
    for client in (alice, bob):
        client.expect_nothing()
