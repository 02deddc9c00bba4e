"""A writer killed before every single statement: what it leaves is all or nothing, and repaired.

Each round commits one crime in a child that is killed by SIGKILL before the k-th line it executes
in the registry's modules, for k = 1, 2, 3 ... until the child comes through alive. What it left in
memory is kept, so that each kind of visitor comes to the same scenes without a kill of its own.
"""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.registry import NameInUse, Registry
from tests.registry.audit import audit, claimed_names
from tests.registry.crimes import (
    BYSTANDERS,
    CAPACITY,
    CRIMES,
    DEAD,
    VICTIM,
    WITNESS,
    Crime,
    Operation,
    crowd_index,
    delete,
    insert,
    join,
    with_bystanders,
)
from tests.registry.lines import before_each_line, die_before_line
from tests.registry.processes import fork, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefork_chat.registry.registry import Location
    from tests.registry.conftest import MakeRegistry


@pytest.fixture
def scene(make_registry: MakeRegistry) -> Registry:
    registry = make_registry(CAPACITY)
    crowd_index(registry)
    return registry


def bystanders(where: Registry) -> list[Location | None]:
    return [where.check(name.lower()) for name in BYSTANDERS]


@pytest.fixture(scope="module")
def left_by() -> Callable[[Registry, Crime], list[bytes]]:
    """What each crime leaves in a scene's memory: seen once, and visited by everybody."""
    known: dict[Crime, list[bytes]] = {}

    def look_up(where: Registry, crime: Crime) -> list[bytes]:
        if crime not in known:
            known[crime] = list(commit_everywhere(where, crime))
        return known[crime]

    return look_up


def commit_everywhere(where: Registry, crime: Crime) -> Iterator[bytes]:
    """Commit `crime`, killed before its first line, its second … and at last alive.

    Yields what is in the memory after each, and ends with the first that came through.
    """
    crime.prepare(where)
    saved = where._map[:]
    for line in count(1):
        where._map[:] = saved
        status = wait(fork(lambda: die_before_line(line, lambda: crime.commit(where))))  # noqa: B023
        assert status in (0, -signal.SIGKILL)
        assert where._write_semaphore.value == 1
        yield where._map[:]
        if status == 0:
            break


def visit_by_check(where: Registry) -> None:
    assert where.check(b"nobody") is None


def visit_by_insert(where: Registry) -> None:
    location = insert(where, b"New", WITNESS)
    assert where.check(b"new") == location
    assert where.delete(location.slot, location.generation)


def visit_by_delete(where: Registry) -> None:
    assert not where.delete(0, 999)


def visit_by_sweep(where: Registry) -> None:
    where.sweep(DEAD, 1)


VISITS = [visit_by_check, visit_by_insert, visit_by_delete, visit_by_sweep]


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: str(visit.__name__))
@pytest.mark.parametrize("crime", CRIMES, ids=str)
def test_registry_is_in_order_after_a_kill_before_any_line(
    scene: Registry,
    crime: Crime,
    visit: Operation,
    left_by: Callable[[Registry, Crime], list[bytes]],
) -> None:
    memories = left_by(scene, crime)
    assert len(memories) > 10
    for memory in memories:
        scene._map[:] = memory
        # First somebody who comes before the supervisor has waited, then one who comes after.
        visit(scene)
        audit(scene)
        scene.table.end(VICTIM)
        visit(scene)
        audit(scene)
        assert None not in bystanders(scene)
        assert scene.check(b"bob") is None
        assert sorted(scene.names()) == sorted(BYSTANDERS)
        _let_successor_in(scene)


def _let_successor_in(where: Registry) -> None:
    """The successor sweeps, and then the name and every slot are to be had again."""
    incarnation = abs(where.table.incarnations[VICTIM]) + 1
    where.table.begin(VICTIM, incarnation, 2)
    where.sweep(VICTIM, incarnation)
    assert b"Bob" not in claimed_names(where).values()
    audit(where)
    insert(where, b"Bob", VICTIM)
    for number in range(CAPACITY - len(BYSTANDERS) - 1):
        insert(where, b"more%d" % number, VICTIM)
    assert where.count == CAPACITY
    assert len(where.names()) == CAPACITY
    audit(where)


@pytest.mark.parametrize("crime", CRIMES, ids=str)
def test_bystanders_are_found_at_every_moment_of_a_write(scene: Registry, crime: Crime) -> None:
    """Whoever looks between any two lines of a writer finds every other name.

    But for a rebuild, which begins by emptying the index: then the sequence tells him that his miss
    counts for nothing.
    """
    crime.prepare(scene)
    tags = {scene._index.tag(name.lower()): name for name in BYSTANDERS}
    misses = 0

    def look(_: int) -> None:
        nonlocal misses
        for tag, name in tags.items():
            if scene._look_up(tag, name.lower()) is None:
                assert scene._header[layout.SEQUENCE] % 2 == 1
                misses += 1
        assert set(BYSTANDERS) <= set(scene.names()) <= {*BYSTANDERS, b"Bob"}

    before_each_line(look, lambda: crime.commit(scene))
    assert bool(misses) == crime.rebuilds


def test_taking_one_out_of_a_crowded_index_moves_others_up(scene: Registry) -> None:
    """The scene is what it says; else the tests above have not seen an entry move."""
    insert(scene, b"Bob", VICTIM)
    with_bystanders(scene)
    before = scene._index._tags.tolist()
    delete(scene, b"bob")
    after = scene._index._tags.tolist()
    assert sum(1 for old, new in zip(before, after, strict=True) if old != new) == 4
    assert None not in bystanders(scene)


def test_names_in_use_stay_so_while_their_dead_owner_is_not_reaped(scene: Registry) -> None:
    """Between a kill and the supervisor's wait nobody knows better; afterwards everybody does."""

    def join_and_die() -> None:
        join(scene)
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(join_and_die)) == -signal.SIGKILL
    with pytest.raises(NameInUse):
        insert(scene, b"Bob", WITNESS)
    scene.table.end(VICTIM)
    insert(scene, b"Bob", WITNESS)
    audit(scene)
