"""How the history's writer opens the file: made if need be, made ours if an older version's.

Version 1 had three indexes of `messages` where there is `said` now, no tail, and the texts of
undelivered messages only among the others. It is converted in one transaction, or not at all: 4 s
for a million messages, in which the historian does nothing else. Version 2 had no names in its
tail: all of it can stay as it is.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat.history.schema import (
    BUSY_SECONDS,
    SINCE_VERSION_2,
    TABLES,
    VERSION,
    WAL_BYTES,
    check_version,
    read_version,
)
from prefork_chat.history.sorting import said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BEAT_STEPS: Final = 100_000
"""Of SQLite's machine, between two signs of life: some milliseconds."""

_encode = msgspec.msgpack.Encoder().encode


def open_writer(path: Path, beat: Callable[[], None]) -> sqlite3.Connection:
    """Open the database for its one writer; raises sqlite3.Error or OSError.

    What takes long calls `beat` now and then. Transactions are the caller's: the module begins none
    of its own.
    """
    # Its log files get the permissions that the database has.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.execute("PRAGMA cache_size = -32768")
        connection.execute("PRAGMA temp_store = MEMORY")
        # Debian's SQLite writes zeros over all that is deleted: here, everything a second time.
        connection.execute("PRAGMA secure_delete = FAST").fetchall()
        version = read_version(connection)
        if not version and not _has_tables(connection):
            connection.executescript(f"BEGIN IMMEDIATE;{TABLES}COMMIT;")
        elif version == 1:
            connection.set_progress_handler(beat, _BEAT_STEPS)
            _convert(connection)
            connection.set_progress_handler(None, 0)
        elif version == 2:
            connection.execute(f"PRAGMA user_version = {VERSION}")
        check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _convert(connection: sqlite3.Connection) -> None:
    """Make a file of version 1 one of this version. What a kill leaves of it is rolled back."""
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    try:
        for index in ("talked", "sent", "received"):
            execute(f"DROP INDEX {index}")
        execute("DROP INDEX undelivered_by_id")
        execute("ALTER TABLE undelivered RENAME TO old_undelivered")
        for statement in filter(str.strip, SINCE_VERSION_2.split(";")):
            execute(statement)
        messages = execute("SELECT * FROM messages ORDER BY id")
        connection.executemany("INSERT INTO said VALUES (?, ?, ?, ?)", said(messages))
        execute(
            "INSERT INTO undelivered SELECT u.recipient, u.id, u.is_sent, m.sender, m.text "
            "FROM old_undelivered u JOIN messages m ON m.id = u.id"
        )
        taken = dict(execute("SELECT loop, number FROM taken"))
        outgoing = execute("SELECT p_id, datagram FROM outgoing ORDER BY number").fetchall()
        execute("UPDATE turn SET taken = ?, outgoing = ?", (_encode(taken), _encode(outgoing)))
        for table in ("old_undelivered", "taken", "outgoing"):
            execute(f"DROP TABLE {table}")
        execute(f"PRAGMA user_version = {VERSION}")
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
