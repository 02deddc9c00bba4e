"""A lock-free reader and a writer that take turns line by line, in thousands of random orders.

The writer runs in a thread that stops before each line of the registry's modules; before each of
its own lines, the reader lets it run a few. So all kinds of half-written states are read, and all
kinds of writes happen in the middle of a reading. What the reader may find is what is there between
two writes: each of them is one store to a reader.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest

from prefork_chat.registry.sessions import Location
from tests.registry.audit import audit
from tests.registry.crimes import (
    BYSTANDERS,
    CAPACITY,
    CRIMES,
    MOVES,
    REPAIRS,
    Crime,
    crowd_index,
    moments,
)
from tests.registry.lines import SteppedThread, before_each_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_chat.registry.ipc import Semaphore
    from prefork_chat.registry.registry import Registry
    from prefork_chat.registry.slots import Held
    from tests.registry.conftest import MakeRegistry

SCHEDULES = 100
KEYS = (b"bob", *(name.lower() for name in BYSTANDERS))

Found = TypeVar("Found")

every_crime = pytest.mark.parametrize("crime", [*CRIMES, *REPAIRS, *MOVES], ids=str)


@pytest.fixture
def scene(make_registry: MakeRegistry) -> Registry:
    registry = make_registry(CAPACITY)
    crowd_index(registry)
    return registry


class WaitingEndsTheWrite:
    """In place of the write semaphore: a reader who waits for it lets the writer finish."""

    def __init__(self, semaphore: Semaphore, writer: SteppedThread) -> None:
        self.semaphore = semaphore
        self.writer = writer

    def __enter__(self) -> None:
        if threading.current_thread() is not self.writer.thread:
            self.writer.finish()
        self.semaphore.acquire()

    def __exit__(self, *_: object) -> None:
        self.semaphore.release()


def interleave(where: Registry, crime: Crime, rng: random.Random, read: Callable[[], None]) -> None:
    """Commit `crime` in turns with `read`, in an order that `rng` draws."""
    semaphore = where._write_semaphore
    writer = SteppedThread(lambda: crime.commit(where))
    where._write_semaphore = WaitingEndsTheWrite(semaphore, writer)  # type: ignore[assignment]
    chance = rng.choice((0.05, 0.2, 0.6))

    def let_write(_: int) -> None:
        if rng.random() < chance:
            writer.advance(rng.choice((1, 1, 2, 5, 20, 50, 200)))

    try:
        writer.advance(rng.choice((0, rng.randrange(200))))
        before_each_line(let_write, read)
    finally:
        writer.finish()
        where._write_semaphore = semaphore


def readings(
    where: Registry, crime: Crime, read: Callable[[random.Random], Found]
) -> Iterator[Found]:
    """What `read` finds while `crime` is committed, once for each of many orders."""
    saved = where._slots._map[:]
    for schedule in range(SCHEDULES):
        rng = random.Random(f"{crime} {schedule}")
        found: list[Found] = []
        interleave(where, crime, rng, lambda: found.append(read(rng)))  # noqa: B023
        yield found[0]
        audit(where)
        where._slots._map[:] = saved


def locations(sessions: list[Held]) -> dict[bytes, Location]:
    return {
        held.name.lower(): Location(held.p_id, held.t_id, held.slot, held.generation)
        for held in sessions
    }


@every_crime
def test_reader_finds_a_name_only_where_it_has_been(scene: Registry, crime: Crime) -> None:
    """And whoever has been there all the time, moving or not, is always found."""
    crime.prepare(scene)
    film = [locations(sessions) for sessions in moments(scene, crime)]

    def check(rng: random.Random) -> tuple[bytes, Location | None]:
        key = rng.choice(KEYS)
        return key, scene.check(key)

    for key, found in readings(scene, crime, check):
        assert found in [moment.get(key) for moment in film]


@every_crime
def test_list_of_names_is_of_one_moment(scene: Registry, crime: Crime) -> None:
    """All who stay are listed, nobody twice, and no name that is made of two."""
    crime.prepare(scene)
    film = [{held.name for held in sessions if held.name} for sessions in moments(scene, crime)]
    always, ever = set.intersection(*film), set.union(*film)
    assert always >= set(BYSTANDERS)
    for names in readings(scene, crime, lambda _: scene.names()):
        assert always <= set(names) <= ever
        assert len({name.lower() for name in names}) == len(names)


@every_crime
def test_list_of_sessions_says_of_each_what_was_so(scene: Registry, crime: Crime) -> None:
    """All who stay are listed, whatever is done to their names and loops, in order of slots."""
    crime.prepare(scene)
    film = moments(scene, crime)
    ever = {(held.slot, held.generation, held) for sessions in film for held in sessions}
    always = set.intersection(*({(h.slot, h.generation) for h in sessions} for sessions in film))
    assert len(always) >= len(BYSTANDERS)
    for sessions in readings(scene, crime, lambda _: scene.sessions()):
        assert {(held.slot, held.generation, held) for held in sessions} <= ever
        assert {(held.slot, held.generation) for held in sessions} >= always
        slots = [held.slot for held in sessions]
        assert slots == sorted(set(slots))


@every_crime
def test_owner_of_a_slot_is_one_that_it_had(scene: Registry, crime: Crime) -> None:
    crime.prepare(scene)
    slots = range(len(BYSTANDERS) + 2)
    film = [
        {held.slot: (held.generation, held.p_id, held.t_id) for held in sessions}
        for sessions in moments(scene, crime)
    ]

    def ask(rng: random.Random) -> tuple[int, tuple[int, int, int] | None]:
        slot = rng.choice(slots)
        return slot, scene.owner(slot)

    for slot, found in readings(scene, crime, ask):
        assert found in [moment.get(slot) for moment in film]
