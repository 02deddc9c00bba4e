"""A small scene for writers who are killed, or looked at, between two stores.

The registry has 8 slots, and an index of 16 places in which Bob and the bystanders all want the
same place: to take Bob out moves bystanders up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from prefork_chat.registry import layout
from prefork_chat.registry.index import NameIndex
from prefork_chat.registry.registry import Location, Registry

VICTIM, WITNESS, DEAD = 0, 1, 2
CAPACITY = 8
BYSTANDERS = (b"Ada", b"Bea", b"Cleo")

Operation = Callable[[Registry], object]


@dataclass(frozen=True)
class Crime:
    """What worker VICTIM does, what it begins with, and whether the index is made anew for it."""

    name: str
    prepare: Operation
    commit: Operation
    rebuilds: bool = False

    def __str__(self) -> str:
        return self.name


def crowd_index(where: Registry) -> None:
    """Change the hash key of an empty registry to one by which all want the same place."""
    index = where._index
    mask = where._index._mask
    for number in count():
        candidate = NameIndex(index._tags, index.slots, b"key %d" % number)
        if len({candidate.tag(key) & mask for key in (b"bob", b"ada", b"bea", b"cleo")}) == 1:
            where._index = candidate
            return


def insert(where: Registry, name: bytes, p_id: int) -> Location:
    incarnation = abs(where.table.incarnations[p_id])
    return where.insert(name.lower(), name, p_id, 0, incarnation)


def delete(where: Registry, key: bytes) -> None:
    location = where.check(key)
    assert location
    assert where.delete(location.slot, location.generation)


def with_bystanders(where: Registry) -> None:
    for name in BYSTANDERS:
        insert(where, name, WITNESS)


def with_a_free_slot(where: Registry) -> None:
    with_bystanders(where)
    insert(where, b"zoe", WITNESS)
    delete(where, b"zoe")


def with_bob(where: Registry) -> None:
    insert(where, b"Bob", VICTIM)
    with_bystanders(where)


def with_a_stale_bob(where: Registry) -> None:
    insert(where, b"BOB", DEAD)
    with_bystanders(where)
    where.table.end(DEAD)


def full_of_the_dead(where: Registry) -> None:
    with_bystanders(where)
    for number in range(CAPACITY - len(BYSTANDERS)):
        insert(where, b"dead%d" % number, DEAD)
    where.table.end(DEAD)


def with_dead_predecessor(where: Registry) -> None:
    with_bystanders(where)
    for number in range(3):
        insert(where, b"dead%d" % number, VICTIM)
    where.table.end(VICTIM)
    where.table.begin(VICTIM, 2, 1)


def torn(where: Registry) -> None:
    """As left by a writer who was killed with his claim made and his index half written."""
    with_bob(where)
    where._header[layout.SEQUENCE] += 1
    where._index.clear()
    where._header[layout.FREE] = 0
    where._header[layout.COUNT] = 77


def join(where: Registry) -> None:
    insert(where, b"Bob", VICTIM)


def leave(where: Registry) -> None:
    delete(where, b"bob")


def leave_and_let_another_in(where: Registry) -> None:
    """The slot goes to a longer name, and Bob comes back elsewhere."""
    delete(where, b"bob")
    insert(where, b"Christina", WITNESS)
    insert(where, b"BOB", WITNESS)


def come_back_at_another_worker(where: Registry) -> None:
    delete(where, b"bob")
    insert(where, b"BOB", WITNESS)


CRIMES = [
    Crime("insert into an unused slot", with_bystanders, join),
    Crime("insert into a freed slot", with_a_free_slot, join),
    Crime("insert over a stale slot", with_a_stale_bob, join),
    Crime("insert when full of the dead", full_of_the_dead, join, rebuilds=True),
    Crime("delete", with_bob, leave),
    Crime("sweep", with_dead_predecessor, lambda where: where.sweep(VICTIM, 2), rebuilds=True),
    Crime("check that repairs", torn, lambda where: where.check(b"nobody"), rebuilds=True),
    Crime("delete that repairs", torn, lambda where: where.delete(7, 99), rebuilds=True),
]

MOVES = [
    Crime("bob's slot goes to another", with_bob, leave_and_let_another_in),
    Crime("bob's slot goes to bob elsewhere", with_bob, come_back_at_another_worker),
]
