"""Whose a name is: what is decided about accounts, before and after somebody has shown a password.

Called by one thread of each worker, which may block; and by the command, for those who read their
own history. `announce_all` is called by the supervisor's process before it forks.

An account is made by `set_password`, or by `identify` for a user of this machine whom the kernel
vouches for: he needs no password, and nobody else gets an account of his login name. Before an
account is committed its name is announced, to whoever keeps the filter of registered names, so that
nobody takes it for free, ever.

Everything here may be done twice, by somebody who was killed and by his successor: the second time
finds the account that the first has made, and the same password is right for it. Of two who make
the same account at once one gets it, whichever process he is in; to the other it is not his.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from prefork_chat.accounts.logins import NOBODY, Logins
from prefork_chat.accounts.passwords import Passwords
from prefork_chat.accounts.store import Account, NotMade, Store, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NO_UID = -1
"""Of somebody of whom the kernel tells nothing."""


class Verdict(Enum):
    """Whose an account is."""

    OWNER = auto()
    """His who asks."""
    NOBODY = auto()
    """There is no such account."""
    STRANGER = auto()
    """Somebody else's, or it cannot be known."""
    RESERVED = auto()
    """It can only be made by the user of this machine whose login name it is."""


class Accounts:
    """The accounts in `state_dir`. Owner: one thread."""

    def __init__(self, state_dir: Path, logins: Logins, announce: Callable[[bytes], None]) -> None:
        """`announce` is told the folded name of an account before the account is there."""
        self._state_dir = state_dir
        self._logins = logins
        self._announce = announce
        self._passwords = Passwords()
        self._store: Store | None = None

    def identify(self, key: bytes, name: bytes, password: bytes, uid: int = NO_UID) -> Verdict:
        """Say whether somebody may call himself `name`, by password (empty: none) or by `uid`.

        With a password the answer takes the same time whether there is an account or not, and is
        OWNER or STRANGER. Raises StoreFailed; NotMade if a local user's account could not be made.
        """
        account = self._find(key)
        if password:
            is_owner = self._matches(account, password)
            return Verdict.OWNER if is_owner else Verdict.STRANGER
        if account is not None:
            return Verdict.OWNER if account.uid == uid != NO_UID else Verdict.STRANGER
        if not self._is_login_of(key, uid):
            return Verdict.NOBODY
        return self._make(key, name, Account(None, uid))

    def set_password(
        self, key: bytes, name: bytes, password: bytes, uid: int = NO_UID, *, is_owner: bool
    ) -> Verdict:
        """Make an account, or change its password; OWNER if that was done.

        `is_owner`: it has been shown before that the account is his who asks. Raises StoreFailed.
        """
        account = self._find(key)
        if account is None:
            is_own_login = self._is_login_of(key, uid)
            if not is_own_login and self._logins.is_login(name):
                return Verdict.RESERVED
            protected = self._passwords.protect(password)
            return self._make(
                key, name, Account(protected, uid if is_own_login else None), password
            )
        if is_owner:
            protected = self._passwords.protect(password)
            self._open_to_write().change_password(key, protected)
            return Verdict.OWNER
        return Verdict.OWNER if self._matches(account, password) else Verdict.STRANGER

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _make(self, key: bytes, name: bytes, account: Account, password: bytes = b"") -> Verdict:
        """Make an account, unless somebody has been quicker and it is not the same one."""
        try:
            store = self._open_to_write()
            self._announce(key)
            if store.add(key, name, account):
                return Verdict.OWNER
        except StoreFailed as failure:
            raise NotMade(str(failure)) from failure
        other = store.find(key)
        if account.password is None:
            is_same = other is not None and other.uid == account.uid
        else:
            is_same = self._matches(other, password)
        return Verdict.OWNER if is_same else Verdict.STRANGER

    def _is_login_of(self, key: bytes, uid: int) -> bool:
        return uid != NO_UID and self._logins.learn(uid) == key != NOBODY

    def _matches(self, account: Account | None, password: bytes) -> bool:
        try:
            return self._passwords.matches(account and account.password, password)
        except ValueError as error:
            raise StoreFailed("an account's password is no Argon2 hash") from error

    def _find(self, key: bytes) -> Account | None:
        if self._store is None:
            self._store = self._opened(Store.open(self._state_dir, create=False))
        return None if self._store is None else self._store.find(key)

    def _open_to_write(self) -> Store:
        if self._store is None:
            self._store = self._opened(Store.open(self._state_dir, create=True))
        assert self._store is not None
        return self._store

    def _opened(self, store: Store | None) -> Store | None:
        """Announce all that are there: others may have made them, or repaired the file."""
        if store is not None:
            for key in store.names():
                self._announce(key)
        return store


def announce_all(state_dir: Path, announce: Callable[[bytes], None]) -> None:
    """Announce the names of all accounts, before anybody can JOIN. Raises StoreFailed."""
    store = Store.open(state_dir, create=False)
    if store is not None:
        with store:
            for key in store.names():
                announce(key)
