"""A clerk: a thread of the worker that answers questions, one after the other.

What takes longer than a turn may (a password's hash, a look into a database) is asked here instead
of in a loop. A loop puts a question into the queue by `ask` and goes on; the clerk answers when it
has come to it, by calling `reply` in its own thread. The queue is bounded: who finds it full is
refused. A question that is to wait (`Later`) goes back into the queue and lets others go first. No
question waits longer than `MOST_WAIT_SECONDS` in that way, and none at all after a `hurry`.

Called by the loops of the worker; `answer` is run in the clerk's thread alone, so it may keep what
is a thread's own, such as a database connection. The thread is started by the first question: who
never asks does not pay. It is never ended; the process ends around it, so whatever `answer` does
must bear that at any instruction. The clerk takes no lock but its own, and nothing is taken under
that. An exception in `answer`, unlike one anywhere else in a worker, does not end it: every
successor would be asked the same again. It is logged, and the answer is INTERNAL.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat import log
from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import Refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.chat.effects import Answer, Question
    from prefork_chat.worker.connection import Connection
    from prefork_chat.worker.peers import Peer

MOST_QUESTIONS: Final = 64
"""Questions that may wait for one clerk: with 25 ms for a hash, the last waits 1.6 s."""

MOST_WAIT_SECONDS: Final = 10.0
"""Who would have to wait longer before his turn comes is refused."""


class Inquiry:
    """A question, who asks it, and in the end its answer.

    `question` and `peer` are values. `asked_at` is in monotonic seconds. `answer` and `rest` are
    the loop's own: the answer once it has come, and what the client sent from the question on, if
    the kernel does not have it any more.
    """

    __slots__ = ("answer", "asked_at", "connection", "peer", "question", "rest")

    def __init__(self, connection: Connection, question: Question, peer: Peer, now: float) -> None:
        self.connection = connection
        self.question = question
        self.peer = peer
        self.asked_at = now
        self.answer: Answer | None = None
        self.rest = b""

    @property
    def is_wanted(self) -> bool:
        """Whether the client who asked is still there (any thread)."""
        return self.connection.fd >= 0


@dataclass(frozen=True, slots=True)
class Later:
    """Says that a question is to wait for so many seconds; `refusal` is for one that cannot."""

    seconds: float
    refusal: Answer


class _Entry(NamedTuple):
    """A question in the queue: due when, the how manieth, and what to do with the answer."""

    due: float
    number: int
    inquiry: Inquiry
    reply: Callable[[Inquiry, Answer], None]


class Clerk:
    """Answers questions in a thread of its own, which `name` is the name of.

    `ask` and `hurry` may be called from any thread.
    """

    def __init__(self, name: str, answer: Callable[[Inquiry], Answer | Later]) -> None:
        self._name = name
        self._answer = answer
        self._changed = threading.Condition()
        self._queue: list[_Entry] = []
        self._numbers = count()
        self._is_hurried = False
        self._thread: threading.Thread | None = None

    def ask(self, inquiry: Inquiry, reply: Callable[[Inquiry, Answer], None]) -> bool:
        """Have a question answered; False if too many are waiting already.

        `reply` is called in the clerk's thread, and must only hand the answer over. Of a client who
        is gone by then it is not called.
        """
        with self._changed:
            if len(self._queue) >= MOST_QUESTIONS:
                return False
            heappush(self._queue, _Entry(inquiry.asked_at, next(self._numbers), inquiry, reply))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    def hurry(self) -> None:
        """Let nothing wait any longer than it must: this worker is about to end."""
        with self._changed:
            self._is_hurried = True
            self._queue = [entry._replace(due=entry.inquiry.asked_at) for entry in self._queue]
            self._queue.sort()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            entry = self._next()
            if not entry.inquiry.is_wanted:
                continue
            answer = self._find_answer(entry.inquiry)
            if isinstance(answer, Later):
                now = monotonic()
                is_too_long = now + answer.seconds - entry.inquiry.asked_at > MOST_WAIT_SECONDS
                if not self._is_hurried and not is_too_long:
                    with self._changed:
                        heappush(self._queue, entry._replace(due=now + answer.seconds))
                    continue
                answer = answer.refusal
            entry.reply(entry.inquiry, answer)

    def _find_answer(self, inquiry: Inquiry) -> Answer | Later:
        try:
            return self._answer(inquiry)
        except Exception:  # noqa: BLE001 - see above
            log.get_logger().error(log.QUESTION_FAILED, clerk=self._name, exc_info=True)
            return Refuse(outcomes.failed(inquiry.question))

    def _next(self) -> _Entry:
        """Wait for the next question that is due."""
        with self._changed:
            while True:
                wait_seconds = self._queue[0].due - monotonic() if self._queue else None
                if wait_seconds is not None and wait_seconds <= 0:
                    return heappop(self._queue)
                self._changed.wait(wait_seconds)
