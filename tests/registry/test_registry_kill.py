"""A writer killed before every single statement: what it leaves is all or nothing, and repaired.

Each round runs one operation in a child that kills itself with SIGKILL before the k-th line it
executes in the registry's modules, for k = 1, 2, 3 ... until the child comes through alive.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import index, layout
from prefork_chat.registry.registry import NameInUse, Registry
from tests.registry.audit import audit, claimed_names
from tests.registry.lines import before_each_line, die_before_line
from tests.registry.processes import fork, wait

if TYPE_CHECKING:
    from tests.registry.conftest import MakeRegistry

VICTIM = 0
BYSTANDERS = (b"Ada", b"Bea", b"Cleo")

Operation = Callable[[Registry], object]


def killed_before_line(line: int, operation: Callable[[], object]) -> bool:
    """Run `operation` in a child, killed before its `line`-th line; False if it has fewer."""
    status = wait(fork(lambda: die_before_line(line, operation)))
    assert status in (0, -signal.SIGKILL)
    return status != 0


@dataclass(frozen=True)
class Crime:
    """An operation of the victim, what it begins with, and whether it makes the index anew."""

    name: str
    prepare: Operation
    commit: Operation
    rebuilds: bool = False

    def __str__(self) -> str:
        return self.name


def slot_of(where: Registry, key: bytes) -> tuple[int, int]:
    location = where.check(key)
    assert location
    return location.slot, location.generation


def nothing(_: Registry) -> None:
    pass


def with_a_free_slot(where: Registry) -> None:
    location = where.insert(b"zoe", b"zoe", 1, 0, 1)
    where.delete(location.slot, location.generation)


def with_bob(where: Registry) -> None:
    where.insert(b"bob", b"Bob", VICTIM, 0, 1)


def with_a_stale_bob(where: Registry) -> None:
    where.insert(b"bob", b"BOB", 2, 0, 1)
    where.table.end(2)


def full_of_the_dead(where: Registry) -> None:
    for n in range(where.capacity - where.count):
        where.insert(b"dead%d" % n, b"dead%d" % n, 2, 0, 1)
    where.table.end(2)


def with_dead_predecessor(where: Registry) -> None:
    for n in range(3):
        where.insert(b"dead%d" % n, b"dead%d" % n, VICTIM, 0, 1)
    where.table.end(VICTIM)
    where.table.begin(VICTIM, 2, 1)


def torn(where: Registry) -> None:
    """As a writer left it who was killed with his claim made and his index half written."""
    with_bob(where)
    where._header[layout.SEQUENCE] += 1
    where._index.clear()
    where._header[layout.FREE] = 0
    where._header[layout.COUNT] = 77


def insert_bob(where: Registry) -> None:
    where.insert(b"bob", b"Bob", VICTIM, 1, where.table.incarnations[VICTIM])


def delete_bob(where: Registry) -> None:
    where.delete(*slot_of(where, b"bob"))


CRIMES = [
    Crime("insert into an unused slot", nothing, insert_bob),
    Crime("insert into a freed slot", with_a_free_slot, insert_bob),
    Crime("insert over a stale slot", with_a_stale_bob, insert_bob),
    Crime("insert into a registry full of the dead", full_of_the_dead, insert_bob, True),
    Crime("delete", with_bob, delete_bob),
    Crime("sweep", with_dead_predecessor, lambda where: where.sweep(VICTIM, 2), True),
    Crime("check that repairs", torn, lambda where: where.check(b"nobody"), True),
    Crime("delete that repairs", torn, lambda where: where.delete(7, 99), True),
]


def visit_by_check(where: Registry) -> None:
    assert where.check(b"nobody") is None


def visit_by_insert(where: Registry) -> None:
    location = where.insert(b"new", b"New", 1, 0, 1)
    assert where.check(b"new") == location
    assert where.delete(location.slot, location.generation)


def visit_by_delete(where: Registry) -> None:
    assert not where.delete(0, 999)


def visit_by_sweep(where: Registry) -> None:
    where.sweep(VICTIM, abs(where.table.incarnations[VICTIM]) + 1)


VISITS = [visit_by_check, visit_by_insert, visit_by_delete, visit_by_sweep]


@pytest.fixture
def crowded(make_registry: MakeRegistry) -> Registry:
    """A registry of 8 slots and 16 places with three bystanders at worker 1."""
    where = make_registry(8)
    # A fixed hash key: the same neighbours in the index in every run, with shifts among them.
    where._index = index.NameIndex(where._index._tags, where._index.slots, b"k" * 16)
    for name in BYSTANDERS:
        where.insert(name.lower(), name, 1, 0, 1)
    return where


def bystanders(where: Registry) -> list[object]:
    return [where.check(name.lower()) for name in BYSTANDERS]


@pytest.mark.parametrize("visit", VISITS, ids=lambda visit: str(visit.__name__))
@pytest.mark.parametrize("crime", CRIMES, ids=str)
def test_registry_is_in_order_after_a_kill_before_any_line(
    crowded: Registry, crime: Crime, visit: Operation
) -> None:
    expected = bystanders(crowded)
    crime.prepare(crowded)
    saved = crowded._map[:]
    for line in count(1):
        was_killed = killed_before_line(line, lambda: crime.commit(crowded))
        crowded.table.end(VICTIM)
        assert crowded._write_semaphore.value == 1
        visit(crowded)
        audit(crowded)
        assert bystanders(crowded) == expected
        assert crowded.check(b"bob") is None
        assert sorted(crowded.names()) == sorted(BYSTANDERS)
        _audit_succession(crowded)
        if not was_killed:
            break
        crowded._map[:] = saved
    assert line > 10


def _audit_succession(where: Registry) -> None:
    """The victim's successor sweeps, and the name and every slot are to be had again."""
    successor = abs(where.table.incarnations[VICTIM]) + 1
    where.table.begin(VICTIM, successor, 2)
    where.sweep(VICTIM, successor)
    if where.table.incarnations[2] < 0:
        where.sweep(2, 99)
    assert set(claimed_names(where).values()) == set(BYSTANDERS)
    audit(where)
    where.insert(b"bob", b"Bob", VICTIM, 0, successor)
    for n in range(where.capacity - where.count):
        where.insert(b"more%d" % n, b"more%d" % n, VICTIM, 0, successor)
    assert where.count == where.capacity
    audit(where)


@pytest.mark.parametrize("crime", CRIMES, ids=str)
def test_bystanders_are_found_at_every_moment_of_a_write(crowded: Registry, crime: Crime) -> None:
    """A lock-free reader that looks between any two lines of a writer finds every other name.

    But for a rebuild, which begins by emptying the index: then the sequence tells him that his miss
    counts for nothing.
    """
    expected = bystanders(crowded)
    crime.prepare(crowded)
    tags = [crowded._index.tag(name.lower()) for name in BYSTANDERS]
    misses = 0

    def look(_: int) -> None:
        nonlocal misses
        for tag, name, location in zip(tags, BYSTANDERS, expected, strict=True):
            found = crowded._look_up(tag, name.lower())
            assert found in (location, None)
            if found is None:
                assert crowded._header[layout.SEQUENCE] % 2 == 1
                misses += 1
        assert set(BYSTANDERS) <= set(crowded.names()) <= {*BYSTANDERS, b"Bob"}

    before_each_line(look, lambda: crime.commit(crowded))
    assert bool(misses) == crime.rebuilds


def test_names_in_use_stay_so_while_their_dead_owner_is_not_reaped(crowded: Registry) -> None:
    """Between a kill and the supervisor's wait nobody knows better; afterwards everybody does."""

    def join_and_die() -> None:
        insert_bob(crowded)
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(join_and_die)) == -signal.SIGKILL
    with pytest.raises(NameInUse):
        crowded.insert(b"bob", b"Bob", 1, 0, 1)
    crowded.table.end(VICTIM)
    crowded.insert(b"bob", b"Bob", 1, 0, 1)
    audit(crowded)
