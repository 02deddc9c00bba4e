"""A writer killed before every single statement: what it leaves is all or nothing, and repaired.

Each round commits one crime in a child that is killed by SIGKILL before the k-th line it executes
in the registry's modules, for k = 1, 2, 3 ... until the child comes through alive.
"""

from __future__ import annotations

import signal
from itertools import count
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.sessions import Location
from tests.registry.audit import audit
from tests.registry.crimes import (
    BYSTANDERS,
    CAPACITY,
    CRIMES,
    RELEASED,
    REPAIRS,
    VICTIM,
    WITNESS,
    Crime,
    crowd_index,
    moments,
    take_over,
    with_bob_released,
    with_bystanders,
)
from tests.registry.lines import before_each_line, die_before_line
from tests.registry.processes import fork, wait
from tests.registry.sessions import end, join

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry
    from prefork_chat.registry.slots import Held
    from tests.registry.conftest import MakeRegistry


@pytest.fixture
def scene(make_registry: MakeRegistry) -> Registry:
    registry = make_registry(CAPACITY)
    crowd_index(registry)
    return registry


def is_killed(crime: Crime, where: Registry, line: int) -> bool:
    """Commit `crime` in a child, killed before its `line`-th line; False if it has fewer."""
    status = wait(fork(lambda: die_before_line(line, lambda: crime.commit(where))))
    assert status in (0, -signal.SIGKILL)
    return status != 0


def visit_by_check(where: Registry) -> None:
    assert where.check(b"nobody") is None


def visit_by_claim(where: Registry) -> None:
    assert where.free(*where.claim(WITNESS, 1))


def visit_by_enter(where: Registry) -> None:
    with pytest.raises(ValueError, match="not that of session"):
        where.enter(0, 999, b"new", b"new")


def visit_by_withdraw(where: Registry) -> None:
    assert not where.withdraw(0, 999)


def visit_by_free(where: Registry) -> None:
    assert not where.free(0, 999)


def visit_by_take_over(where: Registry) -> None:
    assert where.take_over(0, 999, 0, 0, RELEASED) is None


def visit_by_move(where: Registry) -> None:
    assert not where.move(0, 999, 0, 0)


VISITS = [
    visit_by_check,
    visit_by_claim,
    visit_by_enter,
    visit_by_withdraw,
    visit_by_free,
    visit_by_move,
    visit_by_take_over,
]


@pytest.mark.parametrize("crime", [*CRIMES, *REPAIRS], ids=str)
def test_write_killed_before_any_line_is_done_or_not_begun(scene: Registry, crime: Crime) -> None:
    """Readers without a lock see it at once; whoever comes next repairs what only repeats it."""
    crime.prepare(scene)
    film = moments(scene, crime)
    memory = scene._slots._map
    saved = memory[:]
    reached = 0
    for line in count(1):
        was_killed = is_killed(crime, scene, line)
        assert scene._write_semaphore.value == 1
        left = scene.sessions()
        assert left in film[reached:]
        reached = film.index(left)
        assert sorted(scene.names()) == sorted(held.name for held in left if held.name)
        torn = memory[:]
        for visit in VISITS:
            memory[:] = torn
            visit(scene)
            audit(scene)
            assert scene.sessions() == left
            assert_found(scene, left)
        succeed(scene)
        if not was_killed:
            break
        memory[:] = saved
    assert left == film[-1]
    assert line > 10


def assert_found(where: Registry, sessions: list[Held]) -> None:
    """Those with a name are found where they are, and who has none is not."""
    found = {
        held.name: Location(held.p_id, held.t_id, held.slot, held.generation)
        for held in sessions
        if held.name
    }
    assert set(BYSTANDERS) <= set(found) <= {*BYSTANDERS, b"Bob"}
    for name in (*BYSTANDERS, b"Bob"):
        assert where.check(name.lower()) == found.get(name)


def succeed(where: Registry) -> None:
    """The successor ends what it finds; then the name and every slot are to be had again."""
    for held in where.sessions():
        if held.name not in BYSTANDERS:
            assert where.free(held.slot, held.generation)
    audit(where)
    join(where, b"Bob", VICTIM)
    for number in range(CAPACITY - len(BYSTANDERS) - 1):
        join(where, b"more%d" % number, VICTIM)
    assert where.count == where.claimed == len(where.names()) == CAPACITY
    audit(where)


@pytest.mark.parametrize("crime", [*CRIMES, *REPAIRS], ids=str)
def test_bystanders_are_found_at_every_moment_of_a_write(scene: Registry, crime: Crime) -> None:
    """Whoever looks between any two lines of a writer finds every other name.

    But for a rebuild, which begins by emptying the index: then the sequence tells him that his miss
    counts for nothing.
    """
    crime.prepare(scene)
    tags = {scene._index.tag(name.lower()): name for name in BYSTANDERS}
    film = moments(scene, crime)
    seen: list[list[Held]] = []
    misses = 0

    def look(_: int) -> None:
        nonlocal misses
        for tag, name in tags.items():
            if scene._look_up(tag, name.lower()) is None:
                assert scene._header[layout.SEQUENCE] % 2 == 1
                misses += 1
        assert set(BYSTANDERS) <= set(scene.names()) <= {*BYSTANDERS, b"Bob"}
        if not seen or seen[-1] != scene.sessions():
            seen.append(scene.sessions())

    before_each_line(look, lambda: crime.commit(scene))
    look(0)
    assert bool(misses) == crime.rebuilds
    # One store does it, and two of a take-over: there is nothing else in between.
    assert seen == (film if crime in CRIMES else [film[0]])


def test_session_is_taken_over_by_one_of_all_who_try_wherever_the_first_was_killed(
    scene: Registry,
) -> None:
    """Those who try: its old loop, which wants it back, and the first one's successor."""
    old, new = (VICTIM, 0), (WITNESS, 1)
    crime = Crime("take over", with_bob_released, take_over)
    crime.prepare(scene)
    memory = scene._slots._map
    saved = memory[:]
    ends = []
    for line in count(1):
        was_killed = is_killed(crime, scene, line)
        (bob,) = (held for held in scene.sessions() if held.name == b"Bob")
        # Each tries what it finds to be its own, and finds out whether it is.
        own = [loop for loop in (old, new) if loop == (bob.p_id, bob.t_id)]
        is_released = bool(bob.progress & RELEASED)
        taken = [loop for loop in own if scene.take_over(0, 1, *loop, RELEASED)]
        assert len(taken) == is_released
        assert scene.take_over(0, 1, *old, RELEASED) is None
        assert scene.loop_of(0, 1) == own[0]
        assert scene.progress[0] == 7
        ends.append((own[0], is_released))
        if not was_killed:
            break
        memory[:] = saved
    assert list(dict.fromkeys(ends)) == [(old, True), (new, True), (new, False)]


def test_taking_one_out_of_a_crowded_index_moves_others_up(scene: Registry) -> None:
    """The scene is what it says; else the tests above have not seen an entry move."""
    join(scene, b"Bob", VICTIM)
    with_bystanders(scene)
    before = scene._index._tags.tolist()
    end(scene, b"bob")
    after = scene._index._tags.tolist()
    assert sum(1 for old, new in zip(before, after, strict=True) if old != new) == 4
    assert None not in [scene.check(name.lower()) for name in BYSTANDERS]
