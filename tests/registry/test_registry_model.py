"""The registry does what plain dicts would do, over any history of sessions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from prefork_chat.registry import layout
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.registry import Registry
from prefork_chat.registry.sessions import Location, NameInUse, RegistryFull
from prefork_chat.registry.slots import Held
from tests.registry.audit import audit
from tests.registry.conftest import fresh_key
from tests.registry.sessions import tear

CAPACITY, WORKERS, THREADS = 6, 3, 2

# More names than slots, and an index of 16 places: entries collide, wrap round and shift a lot.
NAMES = (b"Al", b"bo", b"CY", b"di", b"ed", b"Fay", b"gus", b"hal", b"x" * 32)
RELEASED = 4
names = strategies.sampled_from(NAMES)
p_ids = strategies.integers(0, WORKERS - 1)
t_ids = strategies.integers(0, THREADS - 1)
some_data = strategies.data()


@dataclass
class Session:
    p_id: int
    t_id: int
    name: bytes = b""
    progress: int = 0


class RegistryMachine(RuleBasedStateMachine):
    """`live` maps (slot, generation) to sessions; `over` holds those that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.semaphore = Semaphore.create(fresh_key(), 1)
        size = layout.Layout(CAPACITY, WORKERS, THREADS, 0).total_bytes
        self.memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", size)
        self.registry = Registry.create(
            self.memory, self.semaphore, layout.Layout(CAPACITY, WORKERS, THREADS)
        )
        self.live: dict[tuple[int, int], Session] = {}
        self.over: list[tuple[int, int]] = []

    def teardown(self) -> None:
        self.semaphore.remove()
        self.registry.close()
        self.memory.close()

    def draw(self, data: strategies.DataObject) -> tuple[int, int]:
        return data.draw(strategies.sampled_from(sorted(self.live)))

    def draw_some(self, data: strategies.DataObject) -> list[tuple[int, int]]:
        """Draw sessions, some of which are over, none twice."""
        known = sorted({*self.live, *self.over})
        return data.draw(strategies.lists(strategies.sampled_from(known), unique=True))

    def by_key(self) -> dict[bytes, tuple[int, int]]:
        return {session.name.lower(): of for of, session in self.live.items() if session.name}

    @rule(p_id=p_ids, t_id=t_ids)
    def claim(self, p_id: int, t_id: int) -> None:
        if len(self.live) == CAPACITY:
            with pytest.raises(RegistryFull):
                self.registry.claim(p_id, t_id)
            return
        slot, generation = self.registry.claim(p_id, t_id)
        assert slot not in {taken for taken, _ in self.live}
        assert (slot, generation) not in self.over
        self.live[slot, generation] = Session(p_id, t_id)

    @rule(p_id=p_ids, t_ids=strategies.lists(t_ids, max_size=CAPACITY + 1))
    def claim_all(self, p_id: int, t_ids: list[int]) -> None:
        claimed = self.registry.claim_all(p_id, t_ids)
        assert len(claimed) == min(len(t_ids), CAPACITY - len(self.live))
        assert not {*claimed} & {*self.over}
        for of, t_id in zip(claimed, t_ids, strict=False):
            assert of[0] not in {taken for taken, _ in self.live}
            self.live[of] = Session(p_id, t_id)

    @precondition(lambda self: self.live)
    @rule(data=some_data, name=names)
    def enter(self, data: strategies.DataObject, name: bytes) -> None:
        of = self.draw(data)
        if self.live[of].name:
            with pytest.raises(ValueError, match="has a name already"):
                self.registry.enter(*of, name.lower(), name)
        elif name.lower() in self.by_key():
            with pytest.raises(NameInUse):
                self.registry.enter(*of, name.lower(), name)
        else:
            self.registry.enter(*of, name.lower(), name)
            self.live[of].name = name

    @precondition(lambda self: self.live)
    @rule(data=some_data)
    def withdraw(self, data: strategies.DataObject) -> None:
        of = self.draw(data)
        assert self.registry.withdraw(*of) == bool(self.live[of].name)
        self.live[of].name = b""

    @precondition(lambda self: self.live)
    @rule(data=some_data)
    def free(self, data: strategies.DataObject) -> None:
        of = self.draw(data)
        del self.live[of]
        assert self.registry.free(*of)
        self.over.append(of)

    @precondition(lambda self: self.live)
    @rule(data=some_data)
    def withdraw_all(self, data: strategies.DataObject) -> None:
        some = self.draw_some(data)
        named = [of for of in some if of in self.live and self.live[of].name]
        assert self.registry.withdraw_all(some) == len(named)
        for of in named:
            self.live[of].name = b""

    @precondition(lambda self: self.live)
    @rule(data=some_data)
    def free_all(self, data: strategies.DataObject) -> None:
        some = self.draw_some(data)
        ended = [of for of in some if of in self.live]
        assert self.registry.free_all(some) == len(ended)
        for of in ended:
            del self.live[of]
        self.over += ended

    @precondition(lambda self: self.live)
    @rule(data=some_data, p_id=p_ids, t_id=t_ids)
    def move(self, data: strategies.DataObject, p_id: int, t_id: int) -> None:
        of = self.draw(data)
        assert self.registry.move(*of, p_id, t_id)
        self.live[of].p_id, self.live[of].t_id = p_id, t_id

    @precondition(lambda self: self.live)
    @rule(data=some_data, p_id=p_ids, t_id=t_ids)
    def take_over(self, data: strategies.DataObject, p_id: int, t_id: int) -> None:
        of = self.draw(data)
        session = self.live[of]
        is_released = bool(session.progress & RELEASED)
        assert bool(self.registry.take_over(*of, p_id, t_id, RELEASED)) == is_released
        if is_released:
            session.p_id, session.t_id = p_id, t_id
            session.progress &= ~RELEASED

    @precondition(lambda self: self.live)
    @rule(data=some_data, word=strategies.integers(-(2**63), 2**63 - 1))
    def make_progress(self, data: strategies.DataObject, word: int) -> None:
        of = self.draw(data)
        self.registry.progress[of[0]] = word
        self.live[of].progress = word

    @precondition(lambda self: self.over)
    @rule(data=some_data)
    def come_late(self, data: strategies.DataObject) -> None:
        of = data.draw(strategies.sampled_from(self.over))
        assert not self.registry.withdraw(*of)
        assert not self.registry.free(*of)
        assert not self.registry.move(*of, 0, 0)
        assert not self.registry.take_over(*of, 0, 0, RELEASED)
        assert self.registry.loop_of(*of) is None
        with pytest.raises(ValueError, match="not that of session"):
            self.registry.enter(*of, b"late", b"late")

    @rule()
    def be_torn_and_repaired(self) -> None:
        tear(self.registry)
        assert self.registry.check(b"nobody") is None

    @invariant()
    def finds_what_the_dict_finds(self) -> None:
        by_key = self.by_key()
        for key in [*(name.lower() for name in NAMES), b"x"]:
            if (of := by_key.get(key)) is None:
                assert self.registry.check(key) is None
            else:
                session = self.live[of]
                assert self.registry.check(key) == Location(session.p_id, session.t_id, *of)

    @invariant()
    def lists_what_the_dict_lists(self) -> None:
        listed = [session.name for session in self.live.values() if session.name]
        assert sorted(self.registry.names()) == sorted(listed)
        assert self.registry.sessions() == [
            Held(*of, session.p_id, session.t_id, session.name, session.progress)
            for of, session in sorted(self.live.items())
        ]
        assert (self.registry.count, self.registry.claimed) == (len(listed), len(self.live))

    @invariant()
    def knows_the_owner_of_every_slot(self) -> None:
        owners = {
            slot: (generation, session.p_id, session.t_id)
            for (slot, generation), session in self.live.items()
        }
        for slot in range(CAPACITY):
            assert self.registry.owner(slot) == owners.get(slot)
        for of, session in self.live.items():
            assert self.registry.loop_of(*of) == (session.p_id, session.t_id)

    @invariant()
    def is_in_order(self) -> None:
        audit(self.registry)


RegistryMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None
)
test_registry_behaves_like_a_dict = RegistryMachine.TestCase
