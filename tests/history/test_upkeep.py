"""What the historian does in its spare time, and when it does it although there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.config import HistoryConfig
from prefork_chat.historian import upkeep
from prefork_chat.historian.upkeep import Upkeep
from prefork_chat.history.reading import Range, Reader
from tests.history.talk import numbered, person, say, texts

if TYPE_CHECKING:
    from prefork_chat.history.archive import Archive


@pytest.fixture
def set_aside() -> list[bytes]:
    return []


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
