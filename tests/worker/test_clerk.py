"""A clerk: in which order it answers, what waits, what is refused, and who is not answered."""

from __future__ import annotations

import queue
import socket
import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from prefork_chat.chat.effects import Refuse, SetPassword
from prefork_chat.worker import clerk as clerks
from prefork_chat.worker.clerk import MOST_QUESTIONS, Clerk, Inquiry, Later
from prefork_chat.worker.connection import Connection
from prefork_chat.worker.peers import peer_of
from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_chat.chat.effects import Answer

REFUSAL = Refuse(b"too late")


class Counter:
    """A clerk whose every answer the test gives, and what came of the questions."""

    def __init__(self) -> None:
        self.asked: queue.Queue[bytes] = queue.Queue()
        self.answers: queue.Queue[Answer | Later] = queue.Queue()
        self.replies: queue.Queue[tuple[bytes, Answer]] = queue.Queue()
        self.clerk = Clerk("test", self._answer)
        self._ends: list[socket.socket] = []

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def ask(self, name: bytes) -> Connection | None:
        """Ask a question; the connection that asks, None if the clerk did not take it."""
        inquiry = self._inquiry(name)
        return inquiry.connection if self.clerk.ask(inquiry, self._reply) else None

    def expect_asked(self, name: bytes) -> None:
        assert self.asked.get(timeout=PATIENCE_SECONDS) == name

    def expect_reply(self, name: bytes, answer: Answer) -> None:
        assert self.replies.get(timeout=PATIENCE_SECONDS) == (name, answer)

    def _inquiry(self, name: bytes) -> Inquiry:
        here, there = socket.socketpair()
        self._ends += [here, there]
        question = SetPassword(name, name, is_owner=False, password=b"secret", tag=b"")
        return Inquiry(Connection(here, 0, 1), question, peer_of(here), monotonic())

    def _answer(self, inquiry: Inquiry) -> Answer | Later:
        self.asked.put(_name(inquiry))
        return self.answers.get(timeout=PATIENCE_SECONDS)

    def _reply(self, inquiry: Inquiry, answer: Answer) -> None:
        self.replies.put((_name(inquiry), answer))


def _name(inquiry: Inquiry) -> bytes:
    assert isinstance(inquiry.question, SetPassword)
    return inquiry.question.name


@pytest.fixture
def counter() -> Iterator[Counter]:
    counter = Counter()
    yield counter
    counter.close()


def yes(number: int = 0) -> Refuse:
    return Refuse(b"%d" % number)


def test_no_thread_is_there_before_the_first_question(counter: Counter) -> None:
    assert "test" not in {thread.name for thread in threading.enumerate()}
    counter.answers.put(yes())
    counter.ask(b"one")
    counter.expect_reply(b"one", yes())
    assert "test" in {thread.name for thread in threading.enumerate()}


def test_questions_are_answered_one_after_the_other(counter: Counter) -> None:
    for n in range(5):
        counter.ask(b"%d" % n)
    counter.expect_asked(b"0")
    assert counter.asked.empty()
    for n in range(5):
        counter.answers.put(yes(n))
        counter.expect_reply(b"%d" % n, yes(n))


def test_too_many_are_refused_until_there_is_room(counter: Counter) -> None:
    counter.ask(b"first")
    counter.expect_asked(b"first")
    for n in range(MOST_QUESTIONS):
        assert counter.ask(b"%d" % n)
    assert counter.ask(b"late") is None
    counter.answers.put(yes())
    counter.expect_asked(b"0")
    assert counter.ask(b"late")
    for _ in range(MOST_QUESTIONS + 1):
        counter.answers.put(yes())
    assert [counter.replies.get(timeout=PATIENCE_SECONDS)[0] for _ in range(66)][-1] == b"late"


def test_who_is_to_wait_lets_others_go_first(counter: Counter) -> None:
    counter.answers.put(Later(0.3, REFUSAL))
    started = monotonic()
    counter.ask(b"guesser")
    counter.expect_asked(b"guesser")
    counter.answers.put(yes(1))
    counter.ask(b"other")
    counter.expect_reply(b"other", yes(1))
    counter.answers.put(yes(2))
    counter.expect_reply(b"guesser", yes(2))
    assert monotonic() - started >= 0.3


def test_who_would_wait_too_long_is_refused(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter.answers.put(Later(clerks.MOST_WAIT_SECONDS + 1, REFUSAL))
    counter.ask(b"at once")
    counter.expect_reply(b"at once", REFUSAL)
    monkeypatch.setattr(clerks, "MOST_WAIT_SECONDS", 0.2)
    for _ in range(3):
        counter.answers.put(Later(0.09, REFUSAL))
    counter.ask(b"again and again")
    counter.expect_reply(b"again and again", REFUSAL)
    assert counter.asked.qsize() == 4


def test_in_a_hurry_nobody_waits(counter: Counter) -> None:
    counter.answers.put(Later(5, REFUSAL))
    counter.ask(b"guesser")
    counter.expect_asked(b"guesser")
    counter.answers.put(yes())
    counter.ask(b"other")
    counter.expect_reply(b"other", yes())
    counter.answers.put(Later(5, REFUSAL))
    started = monotonic()
    counter.clerk.hurry()
    counter.expect_reply(b"guesser", REFUSAL)
    counter.answers.put(Later(5, REFUSAL))
    counter.ask(b"another")
    counter.expect_reply(b"another", REFUSAL)
    assert monotonic() - started < 5


def test_who_is_gone_is_not_asked_for(counter: Counter) -> None:
    counter.ask(b"first")
    counter.expect_asked(b"first")
    gone = counter.ask(b"gone")
    assert gone is not None
    gone.fd = -1
    counter.ask(b"last")
    counter.answers.put(yes())
    counter.answers.put(yes())
    counter.expect_asked(b"last")
