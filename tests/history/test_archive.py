"""What is committed is there for good, and nothing else is."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from prefork_chat.history import schema
from prefork_chat.history.archive import Archive, Pending
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.sorting import Sorter
from tests.history.conftest import RUN
from tests.history.talk import person, say, sort_all, texts

if TYPE_CHECKING:
    from pathlib import Path


def test_a_message_is_there_once_its_transaction_is_over(archive: Archive, reader: Reader) -> None:
    with archive.transaction(7):
        person(archive, "Bob")
        archive.add(person(archive, "Alice"), b"CHAT bob hi, Bob")
        assert not reader.everything("bob", (), Range()).entries
    (entry,) = reader.everything("bob", (), Range()).entries
    assert entry == (1, 7, "Alice", "Bob", "hi, Bob")


def test_a_transaction_that_fails_changes_nothing_in_file_or_memory(
    archive: Archive, reader: Reader
) -> None:
    say(archive, "alice", "bob", "one")
    with contextlib.suppress(ZeroDivisionError), archive.transaction():
        archive.add(person(archive, "carol"), b"CHAT bob two")
        archive.note_turn({0: 9}, [])
        raise ZeroDivisionError
    assert archive.last_id == 1
    assert say(archive, "carol", "bob", "three") == [2]
    assert texts(reader.everything("bob", (), Range())) == ["one", "three"]


def test_a_name_is_shown_as_it_was_written_last(archive: Archive, reader: Reader) -> None:
    say(archive, "ALICE", "bob", "one")
    say(archive, "Alice", "bob", "two")
    assert {entry.sender for entry in reader.everything("bob", (), Range()).entries} == {"Alice"}


def test_ids_go_on_growing_when_all_messages_have_gone(path: Path, archive: Archive) -> None:
    assert say(archive, "alice", "bob", "one", "two") == [1, 2]
    sort_all(archive)
    archive.connection.execute("DELETE FROM messages")
    archive.close()
    again = Archive(path, RUN)
    assert say(again, "alice", "bob", "three") == [3]
    again.close()


def test_a_successor_knows_what_was_taken_and_what_is_to_be_sent(
    path: Path, archive: Archive
) -> None:
    with archive.transaction():
        archive.note_turn({0: 5}, [(1, b"sent")])
    with archive.transaction():
        archive.note_turn({0: 6, 3: 7}, [(0, b"first"), (1, b"later")])
    archive.close()
    successor = Archive(path, RUN)
    assert successor.taken == {0: 6, 3: 7}
    assert successor.outgoing() == [(0, b"first"), (1, b"later")]
    successor.close()


def test_another_run_of_the_daemon_begins_to_count_anew(path: Path, archive: Archive) -> None:
    ids = say(archive, "alice", "bob", "one")
    bob = person(archive, "bob")
    with archive.transaction():
        archive.note_turn({0: 5}, [(0, b"late")])
        archive.await_arrival(bob, person(archive, "alice"), [(ids[0], "one")])
        archive.note_sent(bob, ids)
    archive.close()
    other = Archive(path, b"another run")
    assert not other.taken
    assert not other.outgoing()
    assert [each.text for each in other.pending(bob, 10)] == ["one"]
    other.close()


def test_what_waits_for_somebody_is_given_out_once_until_it_comes_back(archive: Archive) -> None:
    first, second, third = say(archive, "~eve", "bob", "one", "two", "three")
    bob = person(archive, "bob")
    with archive.transaction():
        waiting = [(first, "one"), (second, "two"), (third, "three")]
        archive.await_arrival(bob, person(archive, "~eve"), waiting)
        assert archive.pending(bob, 2) == [
            Pending(first, "eve", "one"),
            Pending(second, "eve", "two"),
        ]
        assert not archive.is_under_way(bob)
        archive.note_sent(bob, (first, second))
        assert archive.is_under_way(bob)
        assert [each.id for each in archive.pending(bob, 9)] == [third]
        archive.note_arrived(bob, (first,))
        archive.note_returned(bob, (second,))
        assert [each.id for each in archive.pending(bob, 9)] == [second, third]
        assert not archive.is_under_way(bob)
    assert archive.recipients() == ["bob"]


def test_a_writer_that_is_killed_leaves_whole_transactions(path: Path) -> None:
    """Ten rows each, with the number of the transaction beside them: they agree after SIGKILL."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        archive = Archive(path, RUN)
        sorter = Sorter(archive)
        number = 0
        while True:
            number += 1
            with archive.transaction(number):
                for _ in range(10):
                    archive.add(person(archive, "alice"), b"CHAT bob x")
                archive.note_turn({0: number}, [])
            if number % 3 == 0:
                sorter.advance()
            os.write(tell, b".")
    os.read(told, 20)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    archive = Archive(path, RUN)
    sort_all(archive)
    rows = archive.connection.execute("SELECT count(*), max(time) FROM messages").fetchone()
    assert rows == (10 * archive.taken[0], archive.taken[0])
    assert archive.last_id == rows[0]
    archive.close()
    os.close(told)
    os.close(tell)


def test_a_file_of_another_version_is_left_alone(path: Path, archive: Archive) -> None:
    archive.connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    archive.close()
    with pytest.raises(schema.UnknownVersionError, match=f"version {schema.VERSION + 1}"):
        Archive(path, RUN)
    with pytest.raises(schema.UnknownVersionError):
        Reader(path).everything("bob", (), Range())


def test_a_file_that_is_no_database_is_an_error(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        Archive(path, RUN)


def test_a_reader_cannot_write(archive: Archive, reader: Reader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.connection().execute("DELETE FROM messages")
