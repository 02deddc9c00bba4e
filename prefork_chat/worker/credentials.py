"""When JOIN and PASS are questions for the accounts clerk, and when they are refused at once.

Guests must not pay for accounts: a name that is surely nobody's account (`NameFilter`) and no login
name of whoever is at the other end of a Unix socket is claimed without a question. Passwords that
others can read on the way, or that are too easy to guess, are not even looked at.
Called by the desk of a loop, in its thread; asks the kernel who a peer is, and waits for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import Authenticate, Claim, Effect, Refuse, SetPassword
from prefork_chat.worker import progress
from prefork_chat.worker.peers import NO_UID, peer_of

if TYPE_CHECKING:
    from prefork_chat.accounts.logins import Logins
    from prefork_chat.inheritance import Inheritance
    from prefork_chat.worker.connection import Connection


class Credentials:
    """What a loop can say about names and passwords by itself."""

    __slots__ = ("_config", "_logins", "_registered")

    def __init__(self, inheritance: Inheritance, logins: Logins) -> None:
        """`logins`: what the accounts clerk has learnt of this machine's users."""
        self._config = inheritance.config.accounts
        self._registered = inheritance.registry.registered
        self._logins = logins

    def examine(self, connection: Connection, effect: Claim | Authenticate | SetPassword) -> Effect:
        """Return what a JOIN or PASS comes to: a claim, a question, or a refusal."""
        if isinstance(effect, Claim):
            if self._config.enabled and self._is_somebodys(connection, effect.key):
                return Authenticate(effect.name, effect.key, b"", effect.tag)
            return effect
        if not self._config.enabled:
            return Refuse(outcomes.no_accounts(effect))
        is_local_only = self._config.plain_text == "local"
        if is_local_only and not peer_of(connection.socket).is_private:
            return Refuse(outcomes.plain(effect))
        least = self._config.min_password_length
        if isinstance(effect, SetPassword) and _is_weak(effect, least):
            return Refuse(outcomes.weak(effect, least))
        return effect

    def _is_somebodys(self, connection: Connection, key: bytes) -> bool:
        """Say whether a name may be an account, or is to become one of its local user."""
        if self._registered.may_have(key):
            return True
        if not connection.flags & progress.LOCAL:
            return False
        uid = peer_of(connection.socket).uid
        return uid != NO_UID and self._logins.known(uid) in {key, None}


def _is_weak(question: SetPassword, least: int) -> bool:
    password = question.password.decode()
    return len(password) < least or password.casefold() == question.key.decode()
