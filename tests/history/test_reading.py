"""Who may read what, and in which order it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.history.archive import Archive
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.schema import CHUNK_SHIFT
from tests.history.conftest import RUN
from tests.history.talk import numbered, say, say_in_room, sort_all, texts

if TYPE_CHECKING:
    from pathlib import Path


def test_a_user_reads_his_own_direct_messages_and_nobody_elses(
    archive: Archive, any_reader: Reader
) -> None:
    say(archive, "alice", "bob", "to bob")
    say(archive, "bob", "alice", "to alice")
    say(archive, "bob", "carol", "secret")
    assert texts(any_reader.everything("alice", (), Range())) == ["to bob", "to alice"]
    assert texts(any_reader.everything("carol", (), Range())) == ["secret"]
    assert texts(any_reader.everything("dave", (), Range())) == []


def test_a_dialogue_is_both_directions_and_nothing_else(
    archive: Archive, any_reader: Reader
) -> None:
    say(archive, "alice", "bob", "one")
    say(archive, "bob", "alice", "two")
    say(archive, "alice", "carol", "other")
    assert texts(any_reader.conversation("alice", "bob", Range())) == ["one", "two"]
    assert texts(any_reader.conversation("bob", "alice", Range())) == ["one", "two"]
    assert texts(any_reader.conversation("carol", "bob", Range())) == []
    assert texts(any_reader.conversation("dave", "bob", Range())) == []


def test_who_registers_a_name_does_not_read_what_its_guests_were_told(
    archive: Archive, any_reader: Reader
) -> None:
    say(archive, "~eve", "bob", "from a guest")
    assert texts(any_reader.everything("eve", (), Range())) == []
    assert texts(any_reader.conversation("eve", "bob", Range())) == []
    say(archive, "eve", "bob", "from the account")
    assert texts(any_reader.everything("eve", (), Range())) == ["from the account"]
    page = any_reader.conversation("bob", "eve", Range())
    assert [entry.sender for entry in page.entries] == ["~eve", "eve"]


def test_a_room_is_read_by_whoever_names_it_and_in_no_other_way(
    archive: Archive, any_reader: Reader
) -> None:
    say_in_room(archive, "alice", "#dev", "in the room")
    say(archive, "alice", "bob", "direct")
    assert texts(any_reader.room("#dev", Range())) == ["in the room"]
    assert texts(any_reader.everything("bob", ["#dev"], Range())) == ["in the room", "direct"]
    # His own words in a room that he is not in any more are the room's.
    assert texts(any_reader.everything("alice", (), Range())) == ["direct"]
    assert texts(any_reader.room("#other", Range())) == []


def test_what_one_says_to_oneself_is_there_once(archive: Archive, any_reader: Reader) -> None:
    say(archive, "alice", "alice", "note to self")
    assert texts(any_reader.everything("alice", (), Range())) == ["note to self"]
    assert texts(any_reader.conversation("alice", "alice", Range())) == ["note to self"]


def test_the_newest_come_and_more_says_that_there_are_older_ones(
    archive: Archive, any_reader: Reader
) -> None:
    say(archive, "alice", "bob", *numbered(5))
    page = any_reader.everything("bob", (), Range(2))
    assert (texts(page), page.has_more) == (["message 3", "message 4"], True)
    page = any_reader.everything("bob", (), Range(2, before=page.entries[0].id))
    assert (texts(page), page.has_more) == (["message 1", "message 2"], True)
    page = any_reader.everything("bob", (), Range(2, before=page.entries[0].id))
    assert (texts(page), page.has_more) == (["message 0"], False)


def test_after_an_id_the_oldest_come(archive: Archive, any_reader: Reader) -> None:
    say(archive, "alice", "bob", *numbered(5))
    page = any_reader.conversation("bob", "alice", Range(2, after=1))
    assert (texts(page), page.has_more) == (["message 1", "message 2"], True)
    page = any_reader.conversation("bob", "alice", Range(2, after=3))
    assert (texts(page), page.has_more) == (["message 3", "message 4"], False)


def test_the_newest_are_found_across_chunks(archive: Archive, any_reader: Reader) -> None:
    say(archive, "alice", "bob", "first")
    sort_all(archive)
    archive._last_id = (3 << CHUNK_SHIFT) - 2  # as if others had said two chunks of messages
    say(archive, "alice", "bob", *numbered(4))
    assert texts(any_reader.everything("bob", (), Range(3))) == [f"message {n}" for n in (1, 2, 3)]
    assert len(any_reader.conversation("alice", "bob", Range(9)).entries) == 5
    assert texts(any_reader.conversation("alice", "bob", Range(2, after=1))) == [
        "message 0",
        "message 1",
    ]


def test_a_reader_goes_on_with_the_file_that_was_put_in_the_place_of_the_old_one(
    path: Path, archive: Archive, reader: Reader
) -> None:
    say(archive, "alice", "bob", "old")
    assert texts(reader.everything("bob", (), Range())) == ["old"]
    archive.close()
    for file in path.parent.glob(f"{path.name}*"):
        file.rename(file.with_name(f"broken-{file.name}"))
    other = Archive(path, RUN)
    say(other, "alice", "bob", "new")
    assert texts(reader.everything("bob", (), Range())) == ["new"]
    other.close()


@pytest.mark.parametrize("name", ["x' OR 1=1 --", "%", "*", '"'])
def test_names_are_no_queries(archive: Archive, any_reader: Reader, name: str) -> None:
    say(archive, "alice", "bob", "one")
    assert not any_reader.everything(name, [name], Range()).entries
    assert not any_reader.conversation("bob", name, Range()).entries
    assert not any_reader.room(name, Range()).entries
