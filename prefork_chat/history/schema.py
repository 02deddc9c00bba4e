"""The tables of the history, and how a connection to read them is opened.

One process writes (the historian), any number read. WAL, so that readers never wait for the writer
nor the writer for them; synchronous=FULL, so that what is committed survives a power cut. Readers
are read-only and never checkpoint: before SQLite 3.51.3 a second one at that could corrupt.

People and rooms are numbered in one table, and a conversation is one number made of theirs: small
index entries, and a dialogue or a room is one range of one index. Everybody who ever was a guest
under a name is another person (`~name`) than the account of that name: whoever registers a name
later does not come to read what its guests were told.

    people       who: `alice` an account, `~alice` guests, `#dev` a room; and how it is written
    tail         the newest batches as they came (see `tail`), `first` the id of a batch's first
                 message: committed, but not sorted into the tables yet
    messages     only appended to; ids grow and are never used again; time in ms since 1970
    said         who has to do with which messages, in chunks (see `sorting`): the ids as `<H` each,
                 counted from the beginning of the chunk, `first` being one of them
    undelivered  messages for somebody who was away: until they have arrived; `is_sent`: under way
    turn         one row: the numbers of the last datagrams that are dealt with, and the datagrams
                 that the last transaction caused (see `archive`); MessagePack
    words        the full-text index: contentless, so that no text is stored twice; `reach` has who
                 may read a message, as words, so that looking for a common word costs its reader
                 no more than his own messages
    facts        run: which run of the daemon `turn` is about; last: the last id that was sorted;
                 indexed: the last one that `words` has
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

FILE_NAME: Final = "history.db"

VERSION: Final = 3
"""One more with every change of the tables (PRAGMA user_version)."""

TALK_SHIFT: Final = 31
FIRST_DIALOGUE: Final = 1 << TALK_SHIFT
"""Conversations from here up are of two people; below they are rooms."""

CHUNK_SHIFT: Final = 12
"""Ids with the same bits above make a chunk, and `said` is ordered by chunks first. So what is
sorted now goes into few pages of it, however large it is. Readers go from chunk to chunk."""

BUSY_SECONDS: Final = 5.0
WAL_BYTES: Final = 64 * 1024 * 1024
"""What the write-ahead log is cut down to after a burst."""

_PEOPLE_AND_MESSAGES: Final = """
CREATE TABLE people (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    talk INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO facts VALUES ('run', x''), ('last', 0), ('indexed', 0);
CREATE VIRTUAL TABLE words USING fts5(
    text, reach, content='', columnsize=0, tokenize='unicode61'
);
"""

SINCE_VERSION_2: Final = """
CREATE TABLE tail (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, time INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE said (
    chunk INTEGER, number INTEGER, first INTEGER, ids BLOB NOT NULL,
    PRIMARY KEY (chunk, number, first)
) WITHOUT ROWID;
CREATE TABLE undelivered (
    recipient INTEGER, id INTEGER, is_sent INTEGER NOT NULL,
    sender INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (recipient, id)
) WITHOUT ROWID;
CREATE INDEX undelivered_by_id ON undelivered (id);
CREATE TABLE turn (only INTEGER PRIMARY KEY, taken BLOB NOT NULL, outgoing BLOB NOT NULL);
INSERT INTO turn VALUES (1, x'80', x'90');
"""

TABLES: Final = f"{_PEOPLE_AND_MESSAGES}{SINCE_VERSION_2}PRAGMA user_version = {VERSION};"


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


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading alone, in any thread; raises sqlite3.Error."""
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(
        uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only = ON")
        check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """See that the file is of this version; raises UnknownVersionError."""
    version = read_version(connection)
    if version != VERSION:
        raise UnknownVersionError(f"{path} has version {version}, this program's is {VERSION}")


def read_version(connection: sqlite3.Connection) -> int:
    """Return which version has made the file, 0: none has."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version
