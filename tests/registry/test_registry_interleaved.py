"""A lock-free reader and a writer that take turns line by line, in thousands of random orders.

The writer runs in a thread that stops before each line of the registry's modules; before each of
its own lines, the reader lets it run a few. So all kinds of half-written states are read, and all
kinds of writes happen in the middle of a reading.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry.registry import Location, Registry
from tests.registry.audit import audit
from tests.registry.crimes import BYSTANDERS, CAPACITY, CRIMES, MOVES, Crime, crowd_index
from tests.registry.lines import SteppedThread, before_each_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.registry.ipc import Semaphore
    from tests.registry.conftest import MakeRegistry

SCHEDULES = 200
KEYS = (b"bob", *(name.lower() for name in BYSTANDERS))

History = dict[bytes, set[Location | None]]


@pytest.fixture
def scene(make_registry: MakeRegistry) -> Registry:
    registry = make_registry(CAPACITY)
    crowd_index(registry)
    return registry


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch) -> History:
    """Every location that a key has ever had, as `insert` returned it."""
    locations: History = defaultdict(set)
    plain_insert = Registry.insert

    def insert(where: Registry, key: bytes, name: bytes, *place: int) -> Location:
        location = plain_insert(where, key, name, *place)
        locations[key].add(location)
        return location

    monkeypatch.setattr(Registry, "insert", insert)
    return locations


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
        writer.advance(rng.choice((0, rng.randrange(100))))
        before_each_line(let_write, read)
    finally:
        writer.finish()
        where._write_semaphore = semaphore


@pytest.mark.parametrize("crime", [*CRIMES, *MOVES], ids=str)
def test_reader_sees_only_what_was_there(scene: Registry, history: History, crime: Crime) -> None:
    """A bystander is always found, and all others only where they have been."""
    crime.prepare(scene)
    saved = scene._map[:]
    for schedule in range(SCHEDULES):
        rng = random.Random(f"{crime} {schedule}")
        key = rng.choice(KEYS)
        found: list[Location | None] = []
        interleave(scene, crime, rng, lambda: found.append(scene.check(key)))  # noqa: B023
        assert found[0] in history[key] | ({None} if key == b"bob" else set()), schedule
        audit(scene)
        scene._map[:] = saved


@pytest.mark.parametrize("crime", [*CRIMES, *MOVES], ids=str)
def test_list_of_names_is_of_one_moment(scene: Registry, history: History, crime: Crime) -> None:
    """All bystanders are listed, nobody twice, and no name that is made of two."""
    crime.prepare(scene)
    saved = scene._map[:]
    for schedule in range(SCHEDULES):
        listed: list[bytes] = []
        rng = random.Random(f"{crime} {schedule}")
        interleave(scene, crime, rng, lambda: listed.extend(scene.names()))  # noqa: B023
        assert set(BYSTANDERS) <= set(listed), schedule
        keys = [name.lower() for name in listed]
        assert len(set(keys)) == len(keys)
        assert set(keys) <= set(history)
        scene._map[:] = saved
