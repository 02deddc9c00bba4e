"""The journal of a loop: what a successor finds, wherever its predecessor was killed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.worker.journal import INITIAL_BYTES, UNDER_WAY, Journal, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPS = 4

SMALL = st.integers(0, 2**40)
POSITION = st.integers(-(2**40), 2**40)
BYTES = st.binary(max_size=200)
RECORDS = st.builds(
    Record,
    turn=st.integers(1, 2**62),
    taken=st.lists(st.tuples(st.integers(0, LOOPS - 1), st.integers(0, 2**62)), max_size=4),
    inputs=st.lists(st.tuples(SMALL, SMALL, SMALL, POSITION, st.integers(0, 2**62)), max_size=4),
    writes=st.lists(st.tuples(SMALL, SMALL, SMALL, st.integers(0, 2**62), BYTES), max_size=4),
    datagrams=st.lists(st.tuples(st.integers(0, 63), BYTES), max_size=4),
    deliveries=st.lists(
        st.tuples(
            BYTES, st.lists(BYTES, max_size=3), st.lists(st.tuples(BYTES, BYTES), max_size=3)
        ),
        max_size=4,
    ),
    confirmed=st.lists(st.tuples(SMALL, SMALL, SMALL), max_size=4),
    is_handover=st.booleans(),
    unread=st.dictionaries(st.integers(0, 2**20), BYTES, max_size=4),
    departing=st.dictionaries(st.integers(0, 2**20), st.lists(BYTES, max_size=2), max_size=4),
)


@pytest.fixture
def memory() -> Iterator[int]:
    fd = os.memfd_create("journal")
    yield fd
    os.close(fd)


def a_record(turn: int, size: int = 0, **fields: object) -> Record:
    return Record(turn, writes=[(1, 1, 0, 0, b"x" * size)], **fields)  # type: ignore[arg-type]


class KilledBeforeTheCommit:
    """The journal's words as a process leaves them that is killed before it stores the first."""

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def __getitem__(self, index: int) -> int:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        if index == 0:
            raise KeyboardInterrupt
        self._words[index] = value


def commit_almost(journal: Journal, record: Record) -> None:
    """Do all of a commit but the store that makes it count."""
    journal._words = KilledBeforeTheCommit(journal._words)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        journal.commit(record)


def test_new_memory_is_an_empty_journal(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    assert journal.load() is None
    assert journal.settled == 0
    assert journal.written() == (0, 0)
    assert journal.taken() == [0] * LOOPS


@given(st.lists(RECORDS, min_size=1, max_size=6))
def test_a_successor_finds_the_last_record_whole(records: list[Record]) -> None:
    memory = os.memfd_create("journal")
    try:
        journal = Journal(memory, LOOPS)
        taken = [0] * LOOPS
        for record in records:
            journal.commit(record)
            assert journal.load() == record
            for loop, number in record.taken:
                taken[loop] = number
        successor = Journal(memory, LOOPS)
        assert successor.load() == records[-1]
        assert successor.taken() == taken
    finally:
        os.close(memory)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3 * INITIAL_BYTES), min_size=1, max_size=8))
def test_who_is_killed_before_a_commit_leaves_the_record_before_it_untouched(
    sizes: list[int],
) -> None:
    """So no record is ever written over the valid one, also while the memory grows."""
    memory = os.memfd_create("journal")
    try:
        for turn, size in enumerate(sizes, start=1):
            doomed = Journal(memory, LOOPS)
            valid = doomed.load()
            commit_almost(doomed, a_record(turn, size))
            successor = Journal(memory, LOOPS)
            assert successor.load() == valid
            successor.commit(a_record(turn, size))
            assert Journal(memory, LOOPS).load() == a_record(turn, size)
    finally:
        os.close(memory)


def test_it_grows_with_the_largest_turn_and_no_further(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    journal.commit(a_record(1, 5 * INITIAL_BYTES))
    for turn in range(2, 50):
        journal.commit(a_record(turn, 5 * INITIAL_BYTES))
        journal.commit(a_record(turn))
    assert os.fstat(memory).st_size < 25 * INITIAL_BYTES
    assert Journal(memory, LOOPS).load() == a_record(49)


def test_small_records_take_turns_in_the_same_little_memory(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    size = os.fstat(memory).st_size
    for turn in range(1, 10_000):
        journal.commit(a_record(turn, 100))
    assert os.fstat(memory).st_size == size


def test_it_remembers_the_last_turn_that_is_settled(memory: int) -> None:
    Journal(memory, LOOPS).settle(2**40)
    assert Journal(memory, LOOPS).settled == 2**40


def test_a_cleared_journal_has_no_record_but_its_numbers(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    journal.commit(a_record(3, taken=[(2, 77)]))
    journal.settle(3)
    journal.clear()
    assert journal.load() is None
    successor = Journal(memory, LOOPS)
    assert successor.load() is None
    assert (successor.settled, successor.taken()) == (3, [0, 0, 77, 0])
    successor.commit(a_record(4))
    assert Journal(memory, LOOPS).load() == a_record(4)


def test_how_far_the_writes_of_a_record_got_is_forgotten_with_it(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    for turn in range(1, 20):
        journal.commit(a_record(turn, size=turn % 5))
        assert Journal(memory, LOOPS).written() == (0, 0)
        if turn % 3 == 0:  # else no Unix socket was written to
            journal.note_written(turn, 2**31 + turn)
            assert Journal(memory, LOOPS).written() == (turn, 2**31 + turn)


def test_how_far_the_writes_got_is_of_the_record_that_counts(memory: int) -> None:
    """Killed between the first store of a commit and the last: nothing of the new one is done."""
    journal = Journal(memory, LOOPS)
    journal.commit(a_record(1))
    journal.note_written(3, 7)
    commit_almost(journal, a_record(2))
    successor = Journal(memory, LOOPS)
    assert successor.load() == a_record(1)
    assert successor.written() == (3, 7)


def test_of_a_write_that_is_under_way_nobody_knows_how_far_it_got(memory: int) -> None:
    journal = Journal(memory, LOOPS)
    journal.commit(a_record(1))
    journal.note_written(2, 9)
    journal.note_writing(3)
    assert Journal(memory, LOOPS).written() == (3, UNDER_WAY)
    journal.note_written(3, 5)
    assert Journal(memory, LOOPS).written() == (3, 5)


def test_the_last_batches_for_rooms_are_known_beside_the_last_datagrams() -> None:
    fd = os.memfd_create("journal")
    journal = Journal(fd, LOOPS)
    journal.note_taken([(0, 11), (3, 14)])
    journal.note_heard([(0, 21), (2, 23)])
    again = Journal(fd, LOOPS)
    assert again.taken() == [11, 0, 0, 14]
    assert again.heard() == [21, 0, 23, 0]
    os.close(fd)
