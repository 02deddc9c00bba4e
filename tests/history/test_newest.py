"""Who reads the tail goes no further than he must, and sees every message once."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from prefork_chat.history import tail
from prefork_chat.history.archive import Archive
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.search import Indexer, find
from prefork_chat.history.sorting import Sorter
from tests.history.conftest import RUN
from tests.history.talk import numbered, person, say, sort_all, texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the first ids of bodies that are gone through."""
    found: list[int] = []
    select = tail.select

    def noted(first: int, body: bytes, lowered: bytes, sought: Iterable[bytes]) -> object:
        found.append(first)
        return select(first, body, lowered, sought)

    monkeypatch.setattr(tail, "select", noted)
    return found


def test_no_more_is_gone_through_than_is_asked_for(
    archive: Archive, reader: Reader, looked_at: list[int]
) -> None:
    for number in range(9):
        say(archive, "alice", "bob", f"message {number}")
    page = reader.everything("bob", (), Range(2))
    assert (texts(page), page.has_more) == (["message 7", "message 8"], True)
    assert looked_at == [9, 8, 7]


def test_bodies_without_the_words_are_not_gone_through_to_find_them(
    archive: Archive, reader: Reader, looked_at: list[int]
) -> None:
    say(archive, "alice", "bob", "the TRAIN")
    say(archive, "alice", "bob", "the plane")
    say(archive, "alice", "bob", "tra\u00efn station")
    assert texts(find(reader, "bob", (), "train", Range())) == ["the TRAIN", "tra\u00efn station"]
    assert looked_at == [3, 1]


def test_a_batch_that_is_cut_is_read_as_one(archive: Archive, reader: Reader) -> None:
    with archive.transaction(7):
        for number in range(60):
            lines = b"\n".join(b"CHAT bob %d %b" % (number, b"x" * 900) for _ in range(3))
            archive.add(person(archive, f"user{number % 7}"), lines)
    (bodies,) = archive.connection.execute("SELECT count(*) FROM tail").fetchone()
    assert bodies > 5
    for _ in range(2):
        page = reader.everything("bob", (), Range(500))
        assert [entry.id for entry in page.entries] == list(range(1, 181))
        assert [entry.text.split()[0] for entry in page.entries[::3]] == [str(n) for n in range(60)]
        assert {entry.time_ms for entry in page.entries} == {7}
        assert len(reader.everything("user3", (), Range(500)).entries) == 27
        assert len(reader.everything("bob", (), Range(100, after=50)).entries) == 100
        sort_all(archive)
    assert archive.tail_bytes == 0


def test_whoever_reads_sees_each_message_once_while_it_is_sorted_and_indexed(path: Path) -> None:
    """Ids of one conversation have no gaps, whichever of them are in the tail at that moment."""
    Archive(path, RUN).close()
    is_over = threading.Event()

    def write() -> None:
        with closing(Archive(path, RUN)) as archive:
            sorter, indexer = Sorter(archive), Indexer(archive)
            number = 0
            while not is_over.is_set():
                say(archive, "alice", "bob", *numbered(7))
                number += 1
                if number % 3 == 0:
                    sorter.advance(1 + number % 30)
                if number % 5 == 0:
                    indexer.advance()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with closing(Reader(path)) as reader:
            last = 0
            while last < 700:
                for page in (
                    reader.everything("bob", (), Range(50)),
                    reader.conversation("bob", "alice", Range(50)),
                    find(reader, "bob", (), "message", Range(50)),
                ):
                    ids = [entry.id for entry in page.entries]
                    newest_id = ids[-1] if ids else 0
                    assert ids == list(range(max(1, newest_id - 49), newest_id + 1))
                    assert newest_id >= last
                    last = newest_id
    finally:
        is_over.set()
        writer.join()
