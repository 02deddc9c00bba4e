"""Lines whose answer takes a while: their clients wait for it, and nobody else does.

A question (`chat.effects.Question`) is asked of a clerk (see `clerk`) and its line is not dealt
with: the loop deals with what stands before it, reads no further, and the line stays where it is,
in the kernel. When the answer has come the same line is read again, asks the same question, and now
there is an answer to it, which is carried out like any other effect. So

- answers come in the order of the lines, and whatever is pipelined behind a question waits;
- there is nothing to be recorded: a successor reads the line again and asks again. So a question
  may be asked twice, or be answered and the answer lost, and must come to the same each time;
- with `durability = "fast"`, where the kernel has no longer what was read, the rest of what was
  read is kept with the inquiry (`Inquiry.rest`). It may hold a password, so it is never handed on:
  a worker that hands over asks nothing new (`close`), and waits for the answers (`are_over`).

One question of a connection is open at a time. Owner: one loop, in its turn, but for `_receive`,
which the clerks' threads call.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import Refuse
from prefork_chat.worker.clerk import Inquiry
from prefork_chat.worker.connection import Pause
from prefork_chat.worker.peers import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork_chat.chat.effects import Answer, Question
    from prefork_chat.worker.clerk import Clerk
    from prefork_chat.worker.clients import Clients
    from prefork_chat.worker.connection import Connection

    Clerks: TypeAlias = Mapping[type[Question], Clerk]
    """Who answers which questions."""

GIVE_UP_SECONDS: Final = 3.0
"""How long a worker that hands over waits for its clerks; the supervisor waits 5 s for the worker.
A full queue takes less, unless the machine's list of users, or a disk, does not answer."""


class Inquiries:
    """The questions of a loop's clients, and the `answers` that have come.

    Clerks append to them, the loop takes them out.
    """

    __slots__ = ("_clerks", "_clients", "_give_up_at", "_wake", "answers")

    def __init__(self, clerks: Clerks, clients: Clients, wake: Callable[[], None]) -> None:
        """`wake` makes the loop begin another turn; it may be called from any thread."""
        self._clerks = clerks
        self._clients = clients
        self._wake = wake
        self.answers: deque[tuple[Inquiry, Answer]] = deque()
        self._give_up_at: float | None = None

    def ask(self, connection: Connection, question: Question) -> Answer | None:
        """Return the answer if it is there; else ask, and read no more of the client until it is.

        There must be a clerk for the question.
        """
        inquiry = connection.inquiry
        connection.inquiry = None
        if inquiry is not None and inquiry.question == question and inquiry.answer is not None:
            return inquiry.answer
        inquiry = Inquiry(connection, question, peer_of(connection.socket), monotonic())
        is_closed = self._give_up_at is not None
        if is_closed or not self._clerks[type(question)].ask(inquiry, self._receive):
            return Refuse(outcomes.too_many_questions(question))
        connection.inquiry = inquiry
        self._clients.pause(connection, Pause.INQUIRY)
        return None

    def take_answers(self) -> None:
        """Read those again whose answers have come; the turn must have been carried out.

        Or else what it has dealt with would not count.
        """
        while self.answers:
            inquiry, answer = self.answers.popleft()
            connection = inquiry.connection
            if connection.inquiry is inquiry and connection.fd >= 0:
                inquiry.answer = answer
                connection.dealt = -1  # the reading begins anew behind what was dealt with
                self._clients.resume(connection, Pause.INQUIRY)

    def close(self) -> None:
        """Ask nothing new, and have what is open answered soon (any thread)."""
        self._give_up_at = monotonic() + GIVE_UP_SECONDS
        for clerk in set(self._clerks.values()):
            clerk.hurry()

    def are_over(self, now: float) -> bool:
        """Say whether all answers have been carried out, after `close`.

        At the end of its patience it answers those that are open: nobody knows.
        """
        inquiries = [c.inquiry for c in self._clients.by_fd.values() if c.inquiry is not None]
        if self._give_up_at is not None and now >= self._give_up_at:
            self.answers.extend(
                (inquiry, Refuse(outcomes.unsure(inquiry.question)))
                for inquiry in inquiries
                if inquiry.answer is None
            )
            self.take_answers()
        return not inquiries

    def _receive(self, inquiry: Inquiry, answer: Answer) -> None:
        """Take an answer (a clerk's thread)."""
        self.answers.append((inquiry, answer))
        self._wake()
