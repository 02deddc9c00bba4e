"""The registry does what a plain dict would do, over any history of sessions and dying workers."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefork_chat.registry import layout
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.registry import Location, NameInUse, Registry, RegistryFull
from tests.registry.audit import audit
from tests.registry.conftest import fresh_key

CAPACITY, WORKERS, THREADS = 6, 3, 2

# More names than slots, and an index of 16 places: entries collide, wrap round and shift a lot.
NAMES = (b"Al", b"bo", b"CY", b"di", b"ed", b"Fay", b"gus", b"hal", b"x" * 32)
names = strategies.sampled_from(NAMES)
p_ids = strategies.integers(0, WORKERS - 1)
t_ids = strategies.integers(0, THREADS - 1)


@dataclass(frozen=True)
class Session:
    name: bytes
    location: Location
    incarnation: int


class RegistryMachine(RuleBasedStateMachine):
    """`live` maps keys to sessions as a dict does; `over` holds sessions that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.semaphore = Semaphore.create(fresh_key(), 1)
        size = layout.total_bytes(CAPACITY, WORKERS, THREADS)
        self.memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", size)
        self.registry = Registry.create(self.memory, self.semaphore, CAPACITY, WORKERS, THREADS)
        self.live: dict[bytes, Session] = {}
        self.over: list[Session] = []
        self.alive: dict[int, int] = {}
        for p_id in range(WORKERS):
            self.start(p_id, 1)

    def teardown(self) -> None:
        self.semaphore.remove()
        self.registry.close()
        self.memory.close()

    def start(self, p_id: int, incarnation: int) -> None:
        self.registry.table.begin(p_id, incarnation, 1)
        self.alive[p_id] = incarnation

    @rule(name=names, p_id=p_ids, t_id=t_ids)
    def insert(self, name: bytes, p_id: int, t_id: int) -> None:
        if p_id not in self.alive:
            return
        key = name.lower()
        incarnation = self.alive[p_id]
        if key in self.live:
            with pytest.raises(NameInUse):
                self.registry.insert(key, name, p_id, t_id, incarnation)
        elif len(self.live) == CAPACITY:
            with pytest.raises(RegistryFull):
                self.registry.insert(key, name, p_id, t_id, incarnation)
        else:
            location = self.registry.insert(key, name, p_id, t_id, incarnation)
            assert (location.p_id, location.t_id) == (p_id, t_id)
            self.live[key] = Session(name, location, incarnation)

    @precondition(lambda self: self.live)
    @rule(data=strategies.data())
    def delete(self, data: strategies.DataObject) -> None:
        key = data.draw(strategies.sampled_from(sorted(self.live)))
        session = self.live.pop(key)
        assert self.registry.delete(session.location.slot, session.location.generation)
        self.over.append(session)

    @precondition(lambda self: self.over)
    @rule(data=strategies.data())
    def delete_late(self, data: strategies.DataObject) -> None:
        """A dead worker deletes nothing; so only sessions whose slot was given up are tried."""
        session = data.draw(strategies.sampled_from(self.over))
        assert not self.registry.delete(session.location.slot, session.location.generation)

    @rule(p_id=p_ids)
    def die(self, p_id: int) -> None:
        if self.alive.pop(p_id, None):
            self.registry.table.end(p_id)
            self.live = {
                key: session for key, session in self.live.items() if session.location.p_id != p_id
            }

    @rule(p_id=p_ids)
    def succeed(self, p_id: int) -> None:
        if p_id not in self.alive:
            incarnation = abs(self.registry.table.incarnations[p_id]) + 1
            self.start(p_id, incarnation)
            before = self.registry.count
            assert self.registry.sweep(p_id, incarnation) == before - self.registry.count

    @invariant()
    def finds_what_the_dict_finds(self) -> None:
        for key in [*(name.lower() for name in NAMES), b"x"]:
            session = self.live.get(key)
            assert self.registry.check(key) == (session.location if session else None)

    @invariant()
    def lists_what_the_dict_lists(self) -> None:
        expected = sorted(session.name for session in self.live.values())
        assert sorted(self.registry.names()) == expected

    @invariant()
    def is_in_order(self) -> None:
        audit(self.registry)
        assert self.registry.count >= len(self.live)


RegistryMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
test_registry_behaves_like_a_dict = RegistryMachine.TestCase
