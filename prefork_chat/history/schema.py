"""The tables of the history, and how a connection to them is opened.

One process writes (the historian), any number read. WAL, so that readers never wait for the writer
nor the writer for them; synchronous=FULL, so that what is committed survives a power cut. Readers
are read-only and never checkpoint: before SQLite 3.51.3 a second one at that could corrupt.

People and rooms are numbered in one table, and a conversation is one number made of theirs: small
index entries, and a dialogue or a room is one range of one index. Everybody who ever was a guest
under a name is another person (`~name`) than the account of that name: whoever registers a name
later does not come to read what its guests were told.

    people       who: `alice` an account, `~alice` guests, `#dev` a room; and how it is written
    messages     only appended to; ids grow and are never used again; time in ms since 1970
    undelivered  messages for somebody who was away: until they have arrived; `is_sent`: under way
    taken        number of the last datagram from each loop that is dealt with (see `archive`)
    outgoing     datagrams that the last transaction caused
    words        the full-text index: contentless, so that no text is stored twice; `reach` has who
                 may read a message, as words, so that looking for a common word costs its reader
                 no more than his own messages
    facts        run: which run of the daemon `taken` and `outgoing` are about; last: the last id
                 that was given; indexed: the last one that `words` has
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "history.db"

VERSION: Final = 1
"""One more with every change of the tables (PRAGMA user_version)."""

TALK_SHIFT: Final = 31
FIRST_DIALOGUE: Final = 1 << TALK_SHIFT
"""Conversations from here up are of two people; below they are rooms."""

CHUNK_SHIFT: Final = 12
"""Ids with the same bits above make a chunk, and every index is ordered by chunks first. So what
is stored now goes into few pages of an index, however large that is: half the CPU for batches of
300 messages, and 2.5 times as many a second into a million. Readers go from chunk to chunk."""

BUSY_SECONDS: Final = 5.0
WAL_BYTES: Final = 64 * 1024 * 1024
"""What the write-ahead log is cut down to after a burst."""

_TABLES: Final = f"""
CREATE TABLE people (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    talk INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX talked ON messages (id >> {CHUNK_SHIFT}, talk);
CREATE INDEX sent ON messages (id >> {CHUNK_SHIFT}, sender) WHERE talk >= {FIRST_DIALOGUE};
CREATE INDEX received ON messages (id >> {CHUNK_SHIFT}, recipient) WHERE talk >= {FIRST_DIALOGUE};
CREATE TABLE undelivered (
    recipient INTEGER, id INTEGER, is_sent INTEGER NOT NULL, PRIMARY KEY (recipient, id)
) WITHOUT ROWID;
CREATE INDEX undelivered_by_id ON undelivered (id);
CREATE TABLE taken (loop INTEGER PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE outgoing (number INTEGER PRIMARY KEY, p_id INTEGER NOT NULL, datagram BLOB NOT NULL);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO facts VALUES ('run', x''), ('last', 0), ('indexed', 0);
CREATE VIRTUAL TABLE words USING fts5(
    text, reach, content='', columnsize=0, tokenize='unicode61'
);
PRAGMA user_version = {VERSION};
"""


class UnknownVersionError(sqlite3.DatabaseError):
    """The file was made by another version of the program: it is neither ours nor broken."""


def dialogue(person: int, other: int) -> int:
    """Return the number of the conversation of two people, whoever speaks."""
    return min(person, other) << TALK_SHIFT | max(person, other)


def put_aside(path: Path, now: float) -> Path:
    """Move a file that is no sound database out of the way, with its log; return where to.

    `now` is in seconds since 1970. What cannot be moved is left.
    """
    aside = path.with_name(f"{path.name}.broken-{now:.0f}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def open_writer(path: Path) -> sqlite3.Connection:
    """Open the database for its one writer, made if need be; raises sqlite3.Error or OSError.

    Transactions are the caller's: the module begins none of its own.
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
        if not _version(connection) and not _has_tables(connection):
            connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading alone, in any thread; raises sqlite3.Error."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(
        uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version != VERSION:
        raise UnknownVersionError(f"{path} has version {version}, this program's is {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None
