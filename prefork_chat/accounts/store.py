"""accounts.db: what is known of each account, in SQLite.

Decides the schema, and when the file is made: with the first account. A few processes write it,
each seldom, so it has a rollback journal, which needs no file to be shared beside it, and is synced
with every commit: an account that was confirmed survives a power cut. A writer that is killed
leaves a journal by which the next one to open the file rolls back.

A `Store` belongs to one thread and must not live through a fork. Everything that goes wrong with
the file - full disk, no permission, not a database, a lock that nobody releases for
`BUSY_SECONDS` - raises StoreFailed, and then the store is best closed and opened anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE: Final = "accounts.db"
BUSY_SECONDS: Final = 5.0

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS accounts (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,        -- the name, folded
    name TEXT NOT NULL,              -- as it was when the account was made
    password TEXT,                   -- an Argon2 hash with its parameters and salt; NULL: none
    uid INTEGER,                     -- of a user of this machine; NULL: of somebody else
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    changed_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
PRAGMA user_version = {_SCHEMA_VERSION};
COMMIT;
"""


class StoreFailed(Exception):  # noqa: N818 - an outcome, not an error of ours
    """The file could not be read or written; the text says why."""


class NotMade(StoreFailed):
    """A new account could not be committed; there was none before."""


class Account(NamedTuple):
    """What is kept of an account; `password` is a hash, or None, `uid` None if it is nobody's."""

    password: str | None
    uid: int | None


class Store:
    """The file, open. A context manager: closes it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """See `open`."""
        self._connection = connection

    @classmethod
    def open(cls, state_dir: Path, *, create: bool) -> Store | None:
        """Open the file in `state_dir`, and make both if they are not there.

        None if there are no accounts and none is to be made. Raises StoreFailed.
        """
        path = state_dir / FILE
        with _failures():
            if create:
                state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            elif not path.exists():
                return None
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            store = cls(connection)
            try:
                is_ready = _prepare(connection, create=create)
            except BaseException:
                store.close()
                raise
        if is_ready:
            return store
        store.close()
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was not committed is rolled back."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # Names are ASCII: text in the file, so that an operator can read it, bytes everywhere else.

    def find(self, key: bytes) -> Account | None:
        """Return the account of a folded name, None if there is none. Takes 10 us."""
        with _failures():
            query = "SELECT password, uid FROM accounts WHERE key = ?"
            row = self._connection.execute(query, (key.decode(),)).fetchone()
        return None if row is None else Account(*row)

    def add(self, key: bytes, name: bytes, account: Account) -> bool:
        """Commit a new account; False if there is one of that name already."""
        with _failures():
            statement = (
                "INSERT INTO accounts (key, name, password, uid) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key) DO NOTHING"
            )
            values = (key.decode(), name.decode(), *account)
            return self._connection.execute(statement, values).rowcount > 0

    def change_password(self, key: bytes, password: str) -> None:
        """Commit another password's hash for an account."""
        with _failures():
            statement = (
                "UPDATE accounts SET password = ?, changed_at = CURRENT_TIMESTAMP WHERE key = ?"
            )
            self._connection.execute(statement, (password, key.decode()))

    def names(self) -> Iterator[bytes]:
        """Give the folded names of all accounts; raises StoreFailed while it does."""
        with _failures():
            for (key,) in self._connection.execute("SELECT key FROM accounts"):
                yield key.encode()


def _prepare(connection: sqlite3.Connection, *, create: bool) -> bool:
    """Make the table if that is wanted; return False if there is none."""
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _SCHEMA_VERSION:
        raise StoreFailed(f"{FILE} is of a newer version of prefork-chat")
    if version < _SCHEMA_VERSION and create:
        connection.executescript(_SCHEMA)
        return True
    # Not so if somebody is making it at this moment, or was killed while he did.
    return bool(version == _SCHEMA_VERSION)


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn what SQLite and the file system may say into StoreFailed."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(str(error)) from error
    except OSError as error:
        raise StoreFailed(str(error.strerror)) from error
