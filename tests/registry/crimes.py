"""A small scene for writers who are killed, or looked at, between two stores.

The registry has 8 slots, and an index of 16 places in which Bob and the bystanders all want the
same place: to take Bob out moves bystanders up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from prefork_chat.registry.index import NameIndex
from prefork_chat.registry.registry import Registry
from tests.registry.sessions import end, join, tear

if TYPE_CHECKING:
    from prefork_chat.registry.slots import Held

VICTIM, WITNESS = 0, 1
CAPACITY = 8
BYSTANDERS = (b"Ada", b"Bea", b"Cleo")
WRITERS = frozenset(
    {
        "claim",
        "claim_all",
        "enter",
        "withdraw",
        "withdraw_all",
        "free",
        "free_all",
        "move",
        "take_over",
    }
)
RELEASED = 1 << 31

Operation = Callable[[Registry], object]


@dataclass(frozen=True)
class Crime:
    """What is done to the registry, what it begins with, and whether it makes the index anew.

    `halfway`: what brings about the state in which a kill may leave it, if there is one.
    """

    name: str
    prepare: Operation
    commit: Operation
    rebuilds: bool = False
    halfway: Operation | None = None

    def __str__(self) -> str:
        return self.name


class Film:
    """A registry that takes down its sessions before the first write and after each."""

    def __init__(self, where: Registry) -> None:
        self.moments = [where.sessions()]
        self._where = where

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._where, name)
        if name not in WRITERS:
            return method

        @wraps(method)
        def write(*arguments: object) -> object:
            result = method(*arguments)
            self.moments.append(self._where.sessions())
            return result

        return write


def moments(where: Registry, crime: Crime) -> list[list[Held]]:
    """The sessions as they are between the writes of `crime`; nothing is changed in the end."""
    saved = where._slots._map[:]
    film = Film(where)
    crime.commit(cast("Registry", film))
    where._slots._map[:] = saved
    if crime.halfway is not None:
        crime.halfway(where)
        film.moments.insert(1, where.sessions())
        where._slots._map[:] = saved
    return film.moments


def crowd_index(where: Registry) -> None:
    """Change the hash key of an empty registry to one by which all want the same place."""
    index = where._index
    mask = where._index._mask
    for number in count():
        candidate = NameIndex(index._tags, index.slots, b"key %d" % number)
        if len({candidate.tag(key) & mask for key in (b"bob", b"ada", b"bea", b"cleo")}) == 1:
            where._index = candidate
            return


def with_bystanders(where: Registry) -> None:
    for name in BYSTANDERS:
        join(where, name, WITNESS)


def with_a_free_slot(where: Registry) -> None:
    """What the session before made of its progress must not be the next one's."""
    with_bystanders(where)
    zoe = join(where, b"zoe", WITNESS)
    where.progress[zoe.slot] = 7
    end(where, b"zoe")


def with_a_nameless_session(where: Registry) -> None:
    with_bystanders(where)
    where.claim(VICTIM, 0)


def with_a_nameless_session_where_one_had_a_name(where: Registry) -> None:
    with_a_free_slot(where)
    where.claim(VICTIM, 0)


def with_bob(where: Registry) -> None:
    join(where, b"Bob", VICTIM)
    with_bystanders(where)


def with_bob_and_somebody_nameless(where: Registry) -> None:
    with_bob(where)
    where.claim(VICTIM, 0)


def with_bob_released(where: Registry) -> None:
    with_bob(where)
    where.progress[0] = RELEASED | 7


def torn_with_bob_released(where: Registry) -> None:
    with_bob_released(where)
    tear(where)


def torn(where: Registry) -> None:
    with_bob(where)
    tear(where)


def torn_with_free_slots(where: Registry) -> None:
    with_bob(where)
    join(where, b"zoe", WITNESS)
    where.claim(WITNESS, 1)
    end(where, b"zoe")
    tear(where)


def claim(where: Registry) -> None:
    where.claim(VICTIM, 1)


def claim_two(where: Registry) -> None:
    assert len(where.claim_all(VICTIM, [1, 0])) == 2


def enter(where: Registry) -> None:
    where.enter(len(BYSTANDERS), where.generations[len(BYSTANDERS)], b"bob", b"Bob")


def withdraw(where: Registry) -> None:
    assert where.withdraw(0, 1)


def withdraw_with_others(where: Registry) -> None:
    """One has gone, and one never had a name."""
    assert where.withdraw_all([(0, 99), (len(BYSTANDERS) + 1, 1), (0, 1)]) == 1


def free_two(where: Registry) -> None:
    assert where.free_all([(0, 1), (7, 99), (len(BYSTANDERS) + 1, 1)]) == 2


def free(where: Registry) -> None:
    assert where.free(0, 1)


def free_the_nameless(where: Registry) -> None:
    assert where.free(len(BYSTANDERS), 1)


def move(where: Registry) -> None:
    assert where.move(0, 1, WITNESS, 1)


def take_over(where: Registry) -> None:
    assert where.take_over(0, 1, WITNESS, 1, RELEASED)


def let_another_in(where: Registry) -> None:
    """The slot goes to a longer name, and Bob comes back elsewhere."""
    end(where, b"bob")
    join(where, b"Christina", WITNESS)
    join(where, b"BOB", WITNESS)


def come_back_in_the_same_slot(where: Registry) -> None:
    end(where, b"bob")
    join(where, b"BOB", WITNESS)


def change_names(where: Registry) -> None:
    """One session, and names of one length: nothing but the naming tells them apart."""
    for name in (b"Eve", b"Zoe", b"Bob"):
        where.withdraw(0, 1)
        where.enter(0, 1, name.lower(), name)


def hand_the_name_over(where: Registry) -> None:
    """Another session, which has been there all the time, takes the name."""
    slot, generation = where.claim(WITNESS, 1)
    where.withdraw(0, 1)
    where.enter(slot, generation, b"bob", b"Bob")


def move_about(where: Registry) -> None:
    """Bob and a bystander go from loop to loop; both are there all the time."""
    for p_id, t_id in ((1, 1), (2, 0), (0, 0), (0, 1)):
        where.move(0, 1, p_id, t_id)
        where.move(1, 1, p_id, t_id)


CRIMES = [
    Crime("claim an unused slot", with_bystanders, claim),
    Crime("claim a freed slot", with_a_free_slot, claim),
    Crime("claim a freed and an unused slot", with_a_free_slot, claim_two, halfway=claim),
    Crime("enter", with_a_nameless_session, enter),
    Crime("enter a used slot", with_a_nameless_session_where_one_had_a_name, enter),
    Crime("withdraw", with_bob, withdraw),
    Crime("withdraw with others", with_bob_and_somebody_nameless, withdraw_with_others),
    Crime("free", with_bob, free),
    Crime("free two", with_bob_and_somebody_nameless, free_two, halfway=free),
    Crime("free the nameless", with_a_nameless_session, free_the_nameless),
    Crime("move", with_bob, move),
    Crime("take over", with_bob_released, take_over, halfway=move),
    Crime("claim that repairs", torn_with_free_slots, claim, rebuilds=True),
    Crime("withdraw that repairs", torn, withdraw, rebuilds=True),
    Crime("free that repairs", torn, free, rebuilds=True),
    Crime("move that repairs", torn, move, rebuilds=True),
    Crime("take-over that repairs", torn_with_bob_released, take_over, rebuilds=True, halfway=move),
]
"""Each is one write, or several at once."""

REPAIRS = [
    Crime("check that repairs", torn, lambda where: where.check(b"nobody"), rebuilds=True),
    Crime("late free that repairs", torn, lambda where: where.free(7, 99), rebuilds=True),
]
"""No session comes of these, and none goes."""

MOVES = [
    Crime("bob's slot goes to another", with_bob, let_another_in),
    Crime("bob's slot goes to bob again", with_bob, come_back_in_the_same_slot),
    Crime("bob changes names", with_bob, change_names),
    Crime("bob's name goes to another session", with_bob, hand_the_name_over),
    Crime("bob and a bystander move", with_bob, move_about),
]
"""Each is several writes."""
