"""Accounts in a daemon's state directory, and a hand on their file."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from prefork_chat.accounts.store import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon

PASSWORD: Final = "correct horse"


def accounts_file(daemon: Daemon) -> Path:
    return daemon.directory.parent / "state" / FILE


def register(daemon: Daemon, *names: str) -> None:
    """Make accounts of these names, with PASSWORD; nobody has the names afterwards."""
    for name in names:
        with daemon.join(name) as client:
            client.ask(f"PASS {PASSWORD}", "OK PASS")
            client.leave()


@contextmanager
def accounts_locked(daemon: Daemon) -> Iterator[None]:
    """Let nobody read the accounts while the block runs: whoever asks must wait.

    Not for longer than a few seconds: then a daemon gives up.
    """
    with closing(sqlite3.connect(accounts_file(daemon), isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


def begin_to_join(client: LineClient, name: str, *behind: str, password: str = PASSWORD) -> None:
    """Send a JOIN with a password and lines behind it; return when the question has been asked.

    The accounts must be locked, so that the answer does not come.
    """
    client.send("PING before", f"JOIN {name} {password}", *behind)
    client.expect("OK PING before")
