"""What the historian does in its spare time, and when it does it although there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from prefork_chat.config import HistoryConfig
from prefork_chat.historian import upkeep
from prefork_chat.historian.upkeep import IDLE_SECONDS, Upkeep
from prefork_chat.history import search, sorting
from prefork_chat.history.reading import Range, Reader
from prefork_chat.history.search import Indexer, find
from tests.history.talk import numbered, person, say, texts

if TYPE_CHECKING:
    from prefork_chat.history.archive import Archive


@pytest.fixture
def set_aside() -> list[bytes]:
    return []


class Clock:
    """What time it is, for the upkeep; steps take no time unless told so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.step_seconds = 0.0

    def __call__(self) -> float:
        self.now += self.step_seconds / 2  # it looks before and after a step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def keeping(archive: Archive, set_aside: list[bytes]) -> Upkeep:
    return Upkeep(archive, HistoryConfig(), lambda data, _reason: set_aside.append(data))


def test_a_short_tail_is_left_alone_and_a_long_one_is_sorted_at_once(
    archive: Archive, keeping: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(archive, "alice", "bob", *numbered(3))
    keeping.keep_tail_short()
    assert archive.sorted_id == 0
    monkeypatch.setattr(upkeep, "MOST_TAIL_BYTES", 10)
    keeping.keep_tail_short()
    assert (archive.sorted_id, archive.tail_bytes) == (3, 0)


def test_what_cannot_be_sorted_alone_goes_into_no_table(
    archive: Archive, keeping: Upkeep, set_aside: list[bytes], reader: Reader
) -> None:
    say(archive, "alice", "bob", "before")
    with archive.transaction(1):
        archive.add(person(archive, "alice"), b"CHAT bob no text: \xff")
    say(archive, "alice", "bob", "after")
    steps = 0
    while archive.sorted_id < archive.last_id and steps < 9:
        keeping._sort()
        steps += 1
    assert texts(reader.everything("bob", (), Range())) == ["before", "after"]
    assert [b"\xff" in data for data in set_aside] == [True]
    assert say(archive, "alice", "bob", "ids go on") == [4]


def test_sorting_is_due_a_while_after_something_has_come(archive: Archive, keeping: Upkeep) -> None:
    assert keeping.wake_at() == float("inf")
    keeping.expect()
    say(archive, "alice", "bob", "one")
    keeping.advance(1)
    assert archive.sorted_id == 0
    assert keeping.wake_at() < float("inf")


def test_a_long_tail_is_sorted_step_by_step_until_it_is_short_but_not_for_ever(
    archive: Archive, keeping: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "MOST_TAIL_BYTES", 100)
    monkeypatch.setattr(upkeep, "MOST_STEPS", 3)
    monkeypatch.setattr(sorting.Sorter.advance, "__defaults__", (1,))
    for number in range(9):
        say(archive, "alice", "bob", f"message {number}")
    keeping.keep_tail_short()
    assert archive.sorted_id == 3
    keeping.keep_tail_short()
    assert 3 < archive.sorted_id < 9
    assert archive.tail_bytes <= 100


def test_who_has_just_stored_something_makes_it_rest_and_idleness_ends_the_rest(
    archive: Archive, keeping: Upkeep, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "STEP_MESSAGES", 1)
    monkeypatch.setattr(sorting.Sorter.advance, "__defaults__", (1,))
    clock.step_seconds = 0.01
    for number in range(9):
        keeping.expect()
        say(archive, "alice", "bob", f"message {number}")
    clock.now += upkeep.SORT_SECONDS
    keeping.advance(1)
    assert archive.sorted_id == 1
    keeping.advance(1)
    assert archive.sorted_id == 1, "it rests"
    clock.now = keeping.wake_at()
    keeping.advance(1)
    assert archive.sorted_id == 2
    clock.now += IDLE_SECONDS
    for _ in range(7):
        assert keeping.wake_at() <= clock.now, "there is no rest from anything"
        keeping.advance(1)
    assert archive.sorted_id == 9


def test_what_is_sorted_is_indexed_though_something_comes_all_the_time(
    archive: Archive, keeping: Upkeep, clock: Clock, reader: Reader
) -> None:
    steps = 0
    while Indexer(archive).behind or not archive.sorted_id:
        keeping.expect()
        say(archive, "alice", "bob", f"message {steps}")
        clock.now += 0.1
        keeping.advance(1)
        steps += 1
        assert steps < 99
    assert archive.last_id == steps, "something has come before each step"
    assert len(find(reader, "bob", (), "message", Range(99)).entries) == steps


def test_in_a_flood_nothing_is_indexed(
    archive: Archive, keeping: Upkeep, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(archive, "alice", "bob", *numbered(3))
    clock.now += 9
    keeping.advance(1)
    assert archive.sorted_id == 3
    monkeypatch.setattr(upkeep, "INDEX_TAIL_BYTES", 1)
    keeping.expect()
    say(archive, "alice", "bob", "and on")
    keeping.advance(1)
    assert Indexer(archive).behind == 3


def test_few_messages_are_not_indexed_one_by_one(
    archive: Archive, keeping: Upkeep, clock: Clock
) -> None:
    index_steps = 0
    for number in range(100):
        keeping.expect()
        say(archive, "alice", "bob", f"message {number}")
        behind = Indexer(archive).behind
        clock.now += 0.1
        keeping.advance(1)
        index_steps += Indexer(archive).behind < behind
    assert 1 <= index_steps <= 100 * 0.1 / upkeep.INDEX_SECONDS + 1
    assert search.STEP_ROWS > 100
