"""How a clerk answers questions about accounts: who may have a name, and whose password it is.

`Registrar.answer` runs in one thread of the worker, the accounts clerk's (see `clerk`), which may
block: it hashes, reads and writes accounts.db, and asks the machine for its users. It decides what
a verdict means for who asked, and that wrong passwords are slowed, as are new ones for the same
account: each costs a hash, for which all others wait. It must not touch connections or sessions.

While accounts.db cannot be used every question about it is answered INTERNAL, which the log says
once, and it is tried anew with each question: guests, whose names are surely nobody's, never come
here. Killed between the hash and the answer, an account may be there of which nobody was told: the
question is asked again, and its owner's password is right.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeGuard

from prefork_chat import config, log
from prefork_chat.accounts.accounts import Accounts, Verdict
from prefork_chat.accounts.store import NotMade, StoreFailed
from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import (
    Admit,
    Authenticate,
    Claim,
    Enrol,
    Identify,
    Refuse,
    SetPassword,
    Vouch,
)
from prefork_chat.worker.clerk import Later
from prefork_chat.worker.peers import NO_UID

if TYPE_CHECKING:
    from prefork_chat.accounts.logins import Logins
    from prefork_chat.chat.effects import Answer
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.clerk import Inquiry
    from prefork_chat.worker.peers import Peer


class Registrar:
    """Answers Authenticate and SetPassword. Owner: the clerk's thread."""

    def __init__(self, inheritance: Inheritance, logins: Logins) -> None:
        """`logins` is filled here, and looked at by loops."""
        self._state_dir = config.resolve_state_dir(inheritance.config)
        self._names = inheritance.registry.registered
        self._penalties = inheritance.registry.penalties
        self._logins = logins
        self._accounts: Accounts | None = None
        self._has_failed = False
        self._log = log.get_logger(p_id=inheritance.p_id, generation=inheritance.generation)

    def answer(self, inquiry: Inquiry) -> Answer | Later:
        """Answer a question."""
        question = inquiry.question
        assert isinstance(question, Authenticate | SetPassword)
        if self._is_guest(question, inquiry.peer):
            return self._admit(question, is_owner=False)
        later = self._later(question, inquiry.peer)
        if later is not None:
            return later
        if self._accounts is None:
            self._accounts = Accounts(self._state_dir, self._logins, self._names.add)
        try:
            answer = self._answer(self._accounts, question, inquiry.peer)
        except NotMade as failure:
            self._note_failure(failure)
            if type(question) is Authenticate:  # a local user, under a name that is nobody's
                return self._admit(question, is_owner=False)
            return Refuse(outcomes.accounts_failed(question))
        except StoreFailed as failure:
            self._note_failure(failure)
            return Refuse(outcomes.accounts_failed(question))
        self._note_success()
        return answer

    def _later(self, question: Authenticate | SetPassword, peer: Peer) -> Later | None:
        """Say how long a question has to wait, because of others before it."""
        now = monotonic()
        wait_seconds = self._penalties.wait_seconds(peer.origin, now)
        if wait_seconds and question.password:
            return Later(wait_seconds, Refuse(outcomes.guessed_too_often(question)))
        if isinstance(question, SetPassword):
            wait_seconds = self._penalties.wait_seconds(_changes_of(question), now)
            if wait_seconds:
                return Later(wait_seconds, Refuse(outcomes.changed_too_often(question)))
        return None

    def _answer(
        self, accounts: Accounts, question: Authenticate | SetPassword, peer: Peer
    ) -> Answer:
        who = (question.key, question.name, question.password, peer.uid)
        if isinstance(question, Authenticate):
            verdict = accounts.identify(*who)
            if isinstance(question, Identify) and verdict is Verdict.OWNER:
                return Vouch(question.key, question.tag)
            if verdict is not Verdict.STRANGER and type(question) is Authenticate:
                return self._admit(question, is_owner=verdict is Verdict.OWNER)
            self._punish(question, peer)
            return Refuse(outcomes.not_authenticated(question))
        verdict = accounts.set_password(*who, is_owner=question.is_owner)
        if verdict is Verdict.OWNER:
            if question.is_owner:
                self._penalties.punish(_changes_of(question), monotonic())
            return Enrol(question.tag)
        if verdict is Verdict.RESERVED:
            return Refuse(outcomes.reserved(question))
        self._punish(question, peer)
        return Refuse(outcomes.not_yours(question))

    def _is_guest(
        self, question: Authenticate | SetPassword, peer: Peer
    ) -> TypeGuard[Authenticate]:
        """Say whether somebody on a Unix socket, unknown so far, only wants a name that is free."""
        return (
            isinstance(question, Authenticate)
            and not question.password
            and not self._names.may_have(question.key)
            and (peer.uid == NO_UID or self._logins.learn(peer.uid) != question.key)
        )

    def _admit(self, question: Authenticate, *, is_owner: bool) -> Admit:
        return Admit(Claim(question.name, question.key, question.tag), is_owner)

    def _punish(self, question: Authenticate | SetPassword, peer: Peer) -> None:
        if question.password:
            self._penalties.punish(peer.origin, monotonic())

    def _note_failure(self, failure: StoreFailed) -> None:
        """Begin anew with the file next time; tell the operator, once."""
        assert self._accounts is not None
        self._accounts.close()
        if not self._has_failed:
            self._has_failed = True
            self._log.error(log.ACCOUNTS_FAILED, reason=str(failure), path=str(self._state_dir))

    def _note_success(self) -> None:
        if self._has_failed:
            self._has_failed = False
            self._log.info(log.ACCOUNTS_RECOVERED)


def _changes_of(question: SetPassword) -> bytes:
    """Return under what the changes of an account's password are counted: no peer is called so."""
    return b"PASS " + question.key
