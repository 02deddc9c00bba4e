"""Rooms begin when somebody enters and end with their last member, whoever is killed when."""

from __future__ import annotations

import signal
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.registry import rooms
from prefork_chat.registry.layout import MEMBERSHIPS
from prefork_chat.registry.rooms import (
    MOST_MISSED,
    Room,
    RoomsFull,
    RoomTable,
    is_in,
    pack_memberships,
    parse_memberships,
)
from tests.registry.lines import before_each_line, die_before_line
from tests.registry.processes import fork, until, wait
from tests.registry.sessions import join

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.registry.registry import Registry
    from tests.registry.conftest import MakeRegistry

VICTIM, WITNESS = 0, 5
"""Loops."""


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    return make_registry(rooms=4)


@pytest.fixture
def table(registry: Registry) -> RoomTable:
    return registry.rooms


def counts(table: RoomTable) -> dict[bytes, dict[int, int]]:
    """The members of every room by loop, where there are any."""
    return {
        room.name: {loop: members for loop, members in enumerate(found) if members}
        for room, found in table.all()
    }


def test_a_room_begins_with_its_first_member_and_keeps_the_name_as_first_typed(
    table: RoomTable,
) -> None:
    assert table.find(b"#dev") is None
    room = table.enter(b"#dev", b"#Dev", VICTIM)
    assert room == Room(0, 1, b"#Dev")
    assert table.enter(b"#dev", b"#DEV", WITNESS) == table.find(b"#dev") == table.at(0) == room
    table.enter(b"#dev", b"#dev", WITNESS)
    assert counts(table) == {b"#Dev": {VICTIM: 1, WITNESS: 2}}


def test_a_room_ends_with_the_last_member_of_the_last_loop(table: RoomTable) -> None:
    table.enter(b"#dev", b"#Dev", VICTIM)
    table.enter(b"#dev", b"#Dev", WITNESS)
    table.set_count(0, VICTIM, 0)
    assert table.find(b"#dev") == Room(0, 1, b"#Dev")
    table.set_count(0, WITNESS, 0)
    assert table.find(b"#dev") is None
    assert counts(table) == {}
    assert table.enter(b"#dev", b"#DEV", VICTIM) == Room(0, 2, b"#DEV")


def test_a_place_without_members_is_had_by_another_room(table: RoomTable) -> None:
    for number in range(4):
        assert table.enter(b"#%d" % number, b"#%d" % number, VICTIM).place == number
    with pytest.raises(RoomsFull):
        table.enter(b"#more", b"#more", WITNESS)
    table.set_count(2, VICTIM, 0)
    assert table.enter(b"#more", b"#more", WITNESS) == Room(2, 2, b"#more")
    assert table.find(b"#2") is None
    assert table.find(b"#3") == Room(3, 1, b"#3")
    assert table.at(2) == Room(2, 2, b"#more")


def test_a_registry_without_rooms_is_full_at_once(make_registry: MakeRegistry) -> None:
    table = make_registry(rooms=0).rooms
    assert table.find(b"#dev") is None
    table.reset(VICTIM, {})
    with pytest.raises(RoomsFull):
        table.enter(b"#dev", b"#dev", VICTIM)


def test_the_longest_name_fits_and_others_are_refused(table: RoomTable) -> None:
    longest = b"#" + b"x" * 32
    assert table.enter(longest, longest, VICTIM).name == longest
    for key, name in ((b"#", b"#"), (b"#" + b"x" * 33,) * 2, (b"#a", b"#b"), (b"#A", b"#A")):
        with pytest.raises(ValueError, match="a key is its name"):
            table.enter(key, name, VICTIM)


def test_a_successor_sets_the_counts_of_its_loop_and_no_others(table: RoomTable) -> None:
    for loop in (VICTIM, WITNESS):
        for name in (b"#a", b"#b", b"#c"):
            table.enter(name, name, loop)
            table.enter(name, name, loop)
    table.reset(VICTIM, {1: 1, 2: 3})
    assert counts(table) == {
        b"#a": {WITNESS: 2},
        b"#b": {VICTIM: 1, WITNESS: 2},
        b"#c": {VICTIM: 3, WITNESS: 2},
    }


def with_a_room(table: RoomTable) -> None:
    table.enter(b"#dev", b"#Dev", WITNESS)


def with_an_empty_room_among_others(table: RoomTable) -> None:
    for name in (b"#a", b"#b", b"#c", b"#dev"):
        table.enter(name, name, WITNESS)
    table.set_count(3, WITNESS, 0)


def with_no_place_never_used(table: RoomTable) -> None:
    for name in (b"#a", b"#b", b"#c", b"#d"):
        table.enter(name, name, WITNESS)
    table.set_count(1, WITNESS, 0)


def enter_and_die(table: RoomTable, line: int) -> int:
    """Enter in a child that is killed before its `line`-th line; its exit status."""
    enter = partial(table.enter, b"#dev", b"#DEV", VICTIM)
    return wait(fork(lambda: die_before_line(line, enter)))


SCENES = [lambda _: None, with_a_room, with_an_empty_room_among_others, with_no_place_never_used]


@pytest.mark.parametrize("prepare", SCENES)
def test_who_enters_and_is_killed_before_any_line_has_entered_or_has_not(
    registry: Registry, prepare: Callable[[RoomTable], None]
) -> None:
    """His successor sets its counts; then nothing is left of it, and the next one can enter."""
    table = registry.rooms
    prepare(table)
    before = counts(table)
    memory = registry._slots._map
    saved = memory[:]
    for line in count(1):
        status = enter_and_die(table, line)
        assert status in (0, -signal.SIGKILL)
        assert registry._write_semaphore.value == 1
        left = {name: dict(found) for name, found in counts(table).items()}
        for found in left.values():
            assert found.pop(VICTIM, 1) == 1
        assert {name: found for name, found in left.items() if found} == before
        table.reset(VICTIM, {})
        assert counts(table) == before
        assert table.enter(b"#dev", b"#dEv", VICTIM).name == (
            b"#Dev" if b"#Dev" in before else b"#dEv"
        )
        assert len(counts(table)) == len(before | {b"#dEv": {}}) - (b"#Dev" in before)
        if status == 0:
            break
        memory[:] = saved
    assert line > 10


@pytest.mark.parametrize("prepare", SCENES)
def test_whoever_looks_while_a_room_begins_sees_it_whole_or_not_at_all(
    registry: Registry, prepare: Callable[[RoomTable], None]
) -> None:
    table = registry.rooms
    prepare(table)
    before = counts(table)
    names: set[bytes] = set()

    def look(_: int) -> None:
        for name in before:
            found = table.find(name.lower())
            assert found is not None
            assert found.name == name
        seen = counts(table)
        assert before.keys() <= seen.keys()
        names.update(seen)

    before_each_line(look, lambda: table.enter(b"#dev", b"#dEV", VICTIM))
    look(0)
    assert names <= before.keys() | {b"#Dev", b"#dEV"}
    assert table.find(b"#dev") is not None


def test_two_who_open_the_same_room_at_once_are_in_one_room(registry: Registry) -> None:
    """A hundred times, in two processes: there is one room in the end, with both counts."""
    table = registry.rooms
    gate = registry.progress

    def is_beyond(side: int, number: int) -> bool:
        return gate[side] > number

    def enter_a_hundred_times() -> None:
        for number in range(100):
            until(partial(is_beyond, 0, number))
            table.enter(b"#%d" % (number % 4), b"#%d" % (number % 4), VICTIM)
            gate[1] = number + 1

    pid = fork(enter_a_hundred_times)
    for number in range(100):
        name = b"#%d" % (number % 4)
        gate[0] = number + 1
        table.enter(name, name, WITNESS)
        until(partial(is_beyond, 1, number))
        assert counts(table) == {name: {VICTIM: 1, WITNESS: 1}}
        room = table.find(name)
        assert room is not None
        table.set_count(room.place, VICTIM, 0)
        table.set_count(room.place, WITNESS, 0)
    assert wait(pid) == 0


@given(
    st.dictionaries(
        st.integers(0, MEMBERSHIPS - 1),
        st.tuples(st.integers(0, 65_535), st.integers(0, 2 * MOST_MISSED)),
    )
)
@settings(deadline=None)
def test_memberships_come_out_of_their_words_as_they_went_in(
    memberships: dict[int, tuple[int, int]],
) -> None:
    words = pack_memberships((p, place, missed) for p, (place, missed) in memberships.items())
    assert len(words) == MEMBERSHIPS
    assert max(words) < 1 << 63
    expected = {(p, place, min(missed, MOST_MISSED)) for p, (place, missed) in memberships.items()}
    assert set(parse_memberships(words)) == expected


def test_the_members_of_a_room_are_found_among_those_who_are_in_rooms(registry: Registry) -> None:
    flag = 1 << 59
    for number in range(6):
        join(registry, b"user%d" % number)
        words = pack_memberships([(number, 3, number), (7, 1, 0)][: 1 + number % 2])
        start = number * MEMBERSHIPS
        for position, word in enumerate(words):
            registry.memberships[start + position] = word
    for slot in (1, 2, 4):
        registry.progress[slot] = flag
    assert [held.name for held in registry.members(3, flag)] == [b"user1", b"user2", b"user4"]
    assert [held.name for held in registry.members(1, flag)] == [b"user1"]
    assert registry.members(0, flag) == []
    assert is_in(registry.memberships, 1, 1)
    assert rooms.parse_memberships([]) == []
