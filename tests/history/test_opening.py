"""A file of an older version becomes one of ours, with all that is in it, or stays as it is."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from prefork_chat.history import schema
from prefork_chat.history.archive import Archive, Pending
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.schema import dialogue
from prefork_chat.history.search import find
from tests.history.conftest import RUN
from tests.history.talk import index_all, say, texts

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = 100_000

# As version 1 made them; never to be changed.
TABLES_OF_VERSION_1 = """
CREATE TABLE people (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    talk INTEGER NOT NULL,
    sender INTEGER NOT NULL,
    recipient INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX talked ON messages (id >> 12, talk);
CREATE INDEX sent ON messages (id >> 12, sender) WHERE talk >= 2147483648;
CREATE INDEX received ON messages (id >> 12, recipient) WHERE talk >= 2147483648;
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
PRAGMA user_version = 1;
"""


@pytest.fixture
def old(path: Path) -> Path:
    """Return a file in which alice and bob talk and the room #dev is full of it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(f"BEGIN;{TABLES_OF_VERSION_1}COMMIT;")
    connection.execute("BEGIN")
    people = [(1, "alice", "Alice"), (2, "bob", "Bob"), (3, "#dev", "#dev")]
    connection.executemany("INSERT INTO people VALUES (?, ?, ?)", people)
    direct = (
        (id_, 7, dialogue(1, 2), 1 + id_ % 2, 2 - id_ % 2, f"word {id_}")
        if id_ % 100 == 0
        else (id_, 7, 3, 1, 3, f"said {id_}")
        for id_ in range(1, MESSAGES + 1)
    )
    connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?)", direct)
    connection.execute("INSERT INTO undelivered VALUES (2, ?, 0)", (MESSAGES,))
    connection.execute("INSERT INTO taken VALUES (4, 44)")
    connection.execute("INSERT INTO outgoing VALUES (9, 1, ?)", (b"later",))
    connection.execute("UPDATE facts SET value = ? WHERE name = 'last'", (MESSAGES,))
    connection.execute("UPDATE facts SET value = ? WHERE name = 'run'", (RUN,))
    connection.execute("COMMIT")
    connection.close()
    return path


def test_all_of_an_old_file_is_read_as_before_and_goes_on(old: Path) -> None:
    beats: list[None] = []
    archive = Archive(old, RUN, lambda: beats.append(None))
    assert beats, "a sign of life while it takes long"
    assert archive.taken == {4: 44}
    assert archive.outgoing() == [(1, b"later")]
    assert archive.pending(2, 9) == [Pending(MESSAGES, "Alice", f"word {MESSAGES}")]
    assert say(archive, "bob", "alice", "new") == [MESSAGES + 1]
    index_all(archive)
    reader = Reader(old)
    page = reader.conversation("alice", "bob", Range(3))
    assert texts(page) == [f"word {MESSAGES - 100}", f"word {MESSAGES}", "new"]
    assert texts(reader.everything("bob", (), Range(2, after=1))) == ["word 100", "word 200"]
    assert texts(reader.room("#dev", Range(1))) == [f"said {MESSAGES - 1}"]
    assert texts(find(reader, "alice", (), "word 500", Range())) == ["word 500"]
    reader.close()
    archive.close()


def test_a_conversion_that_fails_leaves_the_old_file(old: Path) -> None:
    class TooSlowError(Exception):
        pass

    def beat() -> None:
        raise TooSlowError

    with pytest.raises(sqlite3.Error):
        Archive(old, RUN, beat)
    with pytest.raises(schema.UnknownVersionError, match="version 1"):
        Reader(old).room("#dev", Range())
    archive = Archive(old, RUN)
    assert archive.last_id == MESSAGES
    archive.close()


def test_what_the_second_version_had_not_sorted_is_read_beside_what_is_filed_by_name(
    path: Path,
) -> None:
    archive = Archive(path, RUN)
    say(archive, "Alice", "bob", "by number")
    archive.connection.execute("PRAGMA user_version = 2")
    archive.close()
    archive = Archive(path, RUN)
    with archive.transaction(2):
        archive.add_filed(
            b"=Bob\nCHAT alice by name\n@7 CHAT Alice tagged\x1e=alice\nCHAT bob last"
        )
    reader = Reader(path)
    for is_sorted in (False, True):
        if is_sorted:
            index_all(archive)
        page = reader.conversation("alice", "bob", Range(9))
        assert texts(page) == ["by number", "by name", "tagged", "last"]
        assert [entry.sender for entry in page.entries[1:3]] == ["Bob", "Bob"]
        assert texts(find(reader, "bob", (), "tagged", Range())) == ["tagged"]
    assert archive.last_id == 4
    reader.close()
    archive.close()
