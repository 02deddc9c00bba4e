"""Finding by words: the same with and without the index, and nobody finds what he may not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.history import search
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.search import Indexer, find
from tests.history.talk import index_all, numbered, say, say_in_room, sort_all, texts

if TYPE_CHECKING:
    from prefork_chat.history.archive import Archive


@pytest.fixture(params=["indexed", "sorted", "in the tail"])
def told(request: pytest.FixtureRequest, archive: Archive) -> None:
    say(archive, "alice", "bob", "The Zürich train leaves at 9:15", "no, at 10")
    say(archive, "carol", "dave", "the zurich train is a secret")
    say(archive, "~eve", "bob", "is there a train?")
    say_in_room(archive, "carol", "#dev", "build the TRAIN model")
    if request.param == "indexed":
        index_all(archive)
    elif request.param == "sorted":
        sort_all(archive)


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("user", "rooms", "sought", "found"),
    [
        ("bob", [], "train", ["The Zürich train leaves at 9:15", "is there a train?"]),
        ("bob", [], "TRAIN zurich", ["The Zürich train leaves at 9:15"]),
        ("bob", [], "zürich", ["The Zürich train leaves at 9:15"]),
        ("bob", [], "9:15", ["The Zürich train leaves at 9:15"]),
        ("alice", [], "train", ["The Zürich train leaves at 9:15"]),
        ("alice", ["#dev"], "train", ["The Zürich train leaves at 9:15", "build the TRAIN model"]),
        ("dave", ["#dev"], "model train", ["build the TRAIN model"]),
        ("carol", [], "model", []),  # her own words, in a room that she has left
        ("eve", [], "train", []),  # the account of that name, not its guest
        ("bob", [], "secret", []),
        ("bob", [], "trai", []),
        ("bob", [], "p1", []),
        ("bob", [], '"', []),
        ("bob", [], "NEAR(train OR zurich)", []),
        ("nobody", [], "train", []),
    ],
)
def test_words_are_found_in_what_one_may_read(
    reader: Reader, user: str, rooms: list[str], sought: str, found: list[str]
) -> None:
    assert texts(find(reader, user, rooms, sought, Range())) == found


def test_newest_come_first_across_the_end_of_the_index(archive: Archive, reader: Reader) -> None:
    say(archive, "alice", "bob", *numbered(5))
    index_all(archive)
    say(archive, "alice", "bob", "message 5", "message 6")
    page = find(reader, "bob", (), "message", Range(4))
    assert (texts(page), page.has_more) == ([f"message {n}" for n in range(3, 7)], True)
    page = find(reader, "bob", (), "message", Range(9, before=page.entries[0].id))
    assert (texts(page), page.has_more) == (["message 0", "message 1", "message 2"], False)


def test_the_index_is_brought_up_in_small_steps(
    archive: Archive, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "STEP_ROWS", 2)
    say(archive, "alice", "bob", *numbered(5))
    sort_all(archive)
    indexer = Indexer(archive)
    steps = 0
    while indexer.behind:
        indexer.advance()
        steps += 1
        assert len(find(reader, "bob", (), "message", Range()).entries) == 5
    assert steps == 3


def test_in_a_flood_only_so_many_are_gone_through(
    archive: Archive, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_BEHIND", 3)
    say(archive, "alice", "bob", "old word", *numbered(5))
    assert not find(reader, "bob", (), "word", Range()).entries
    index_all(archive)
    assert texts(find(reader, "bob", (), "word", Range())) == ["old word"]


def test_the_index_is_merged_bit_by_bit_so_that_few_pieces_are_left(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "STEP_ROWS", 2)
    say(archive, "alice", "bob", *numbered(300))
    index_all(archive)
    pieces = archive.connection.execute("SELECT count(DISTINCT segid) FROM words_idx").fetchone()
    assert pieces[0] <= 24  # of 150 steps
    archive.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")


def test_an_index_that_was_made_otherwise_is_merged_in_steps_from_now_on(archive: Archive) -> None:
    connection = archive.connection
    connection.execute("INSERT INTO words (words, rank) VALUES ('automerge', 4)")
    Indexer(archive)
    config = dict(connection.execute("SELECT k, v FROM words_config"))
    assert (config["automerge"], config["crisismerge"]) == (0, 64)


def test_unindexed_messages_are_found_by_their_words_not_by_parts_of_them(
    archive: Archive, reader: Reader
) -> None:
    say(
        archive,
        "alice",
        "bob",
        "Trains and planes",
        "no trainsand",
        "\u00dcber den Wolken",
        "train",
    )
    for _ in range(2):
        assert texts(find(reader, "bob", (), "train", Range())) == ["train"]
        assert texts(find(reader, "bob", (), "planes TRAINS", Range())) == ["Trains and planes"]
        assert texts(find(reader, "bob", (), "uber", Range())) == ["\u00dcber den Wolken"]
        assert not find(reader, "bob", (), "\u00fcbel", Range()).entries
        sort_all(archive)
