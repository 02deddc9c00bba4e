"""Several processes of several threads at once, and one after the other killed at random.

What must hold all the time: a name has one owner; a session is found by everybody, where it is; and
a storm of kills takes no session away and leaves none that nobody adopts.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.registry import Registry
from prefork_chat.registry.sessions import Location, NameInUse, RegistryFull
from tests.registry.audit import audit
from tests.registry.lines import die_before_line
from tests.registry.processes import fork, until, wait
from tests.registry.sessions import end, join

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.registry.conftest import MakeRegistry

NAMES = [b"Name-%d" % number for number in range(60)]
PILLARS = [b"pillar-%d" % number for number in range(8)]
WORKERS, THREADS = 4, 2
PILLAR_WORKER = WORKERS
STORMS, DEATHS_PER_STORM = 8, 20
FOR_EVER = 1 << 60
SEED_VARIABLE = "PREFORK_CHAT_TEST_SEED"


@pytest.fixture
def seed() -> int:
    """Printed when the test fails; set PREFORK_CHAT_TEST_SEED to run it again."""
    number = int(os.environ.get(SEED_VARIABLE, "0")) or random.SystemRandom().getrandbits(32)
    print(f"{SEED_VARIABLE}={number}")
    return number


class Ledger:
    """Who owns each of NAMES, one byte each in memory beside the registry's: 0 is nobody.

    Byte n belongs to the session that has name n: it is set after that has entered, and cleared
    before it withdraws. Behind them one byte per worker, which it counts up while it works; the
    flag by which the test ends a storm; and how often a process found a torn registry (modulo 256,
    written under the write semaphore).
    """

    def __init__(self) -> None:
        self.bytes = mmap.mmap(-1, mmap.PAGESIZE)
        self.pulses = len(NAMES)
        self.flag = self.pulses + WORKERS
        self.repairs = self.flag + 1

    def claim(self, number: int, p_id: int) -> None:
        assert self.bytes[number] == 0, f"{NAMES[number]!r} has two owners"
        self.bytes[number] = p_id + 1

    def give_up(self, number: int, p_id: int) -> None:
        assert self.bytes[number] == p_id + 1
        self.bytes[number] = 0

    def hand_over(self, p_id: int, numbers: set[int]) -> None:
        """The dead worker's names are its successor's: those that it noted, all of them."""
        noted = {number for number in range(len(NAMES)) if self.bytes[number] == p_id + 1}
        assert noted <= numbers, "a session went with its worker"
        for number in numbers - noted:
            self.claim(number, p_id)

    def owned(self) -> set[bytes]:
        return {name for number, name in enumerate(NAMES) if self.bytes[number]}

    def count_up(self, at: int) -> None:
        self.bytes[at] = (self.bytes[at] + 1) % 256


class Churn:
    """One thread of a worker: it joins and leaves under random names, moves, and looks for others.

    A fatal one kills its process now and then, before a random line of what it does.
    """

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        place: tuple[int, int],
        seed: str,
        is_fatal: bool,
    ) -> None:
        self.registry = registry
        self.ledger = ledger
        self.place = place
        self.rng = random.Random(seed)
        self.is_fatal = is_fatal
        self.own: dict[int, Location] = {}

    def run(self, steps: int) -> None:
        """Go on for `steps` steps or until the flag is up; who has joined then stays."""
        for _ in range(steps):
            if self.ledger.bytes[self.ledger.flag]:
                return
            number = self.rng.randrange(len(NAMES))
            if self.is_fatal and self.rng.random() < 0.01:
                line = self.rng.randrange(1, 120)
                die_before_line(line, lambda: self.step(number))  # noqa: B023
            else:
                self.step(number)
            self.look(number)
            self.ledger.count_up(self.ledger.pulses + self.place[0])

    def step(self, number: int) -> None:
        if number not in self.own:
            self.join(number)
        elif self.rng.random() < 0.3:
            self.move(number)
        else:
            self.leave(number)

    def join(self, number: int) -> None:
        name = NAMES[number]
        try:
            slot, generation = self.registry.claim(*self.place)
        except RegistryFull:
            return
        assert self.registry.owner(slot) == (generation, *self.place)
        try:
            self.registry.enter(slot, generation, name.lower(), name)
        except NameInUse:
            assert self.registry.free(slot, generation)
            return
        self.ledger.claim(number, self.place[0])
        self.registry.progress[slot] = number
        self.own[number] = Location(*self.place, slot, generation)
        assert self.registry.check(name.lower()) == self.own[number]

    def move(self, number: int) -> None:
        """To any loop of the same worker; it stays this thread's to play with."""
        _, _, slot, generation = self.own[number]
        place = (self.place[0], self.rng.randrange(THREADS))
        assert self.registry.move(slot, generation, *place)
        self.own[number] = Location(*place, slot, generation)
        assert self.registry.check(NAMES[number].lower()) == self.own[number]

    def leave(self, number: int) -> None:
        location = self.own.pop(number)
        assert self.registry.check(NAMES[number].lower()) == location
        assert self.registry.progress[location.slot] == number
        self.ledger.give_up(number, self.place[0])
        if self.rng.random() < 0.5:
            assert self.registry.withdraw(location.slot, location.generation)
        assert self.registry.free(location.slot, location.generation)

    def look(self, number: int) -> None:
        pillar = self.rng.choice(PILLARS)
        found = self.registry.check(pillar)
        assert found is not None, f"{pillar!r} was missed"
        assert found.p_id == PILLAR_WORKER
        t_id = self.rng.randrange(THREADS)
        assert self.registry.move(found.slot, found.generation, PILLAR_WORKER, t_id)
        assert self.registry.check(b"nobody-%d" % number) is None
        chance = self.rng.random()
        if chance < 0.02:
            assert set(PILLARS) <= set(self.registry.names())
        elif chance < 0.04:
            sessions = self.registry.sessions()
            assert [held.name for held in sessions if held.p_id == PILLAR_WORKER] == PILLARS
            assert {held.name for held in sessions} <= {b"", *PILLARS, *NAMES}


def adopt(registry: Registry, ledger: Ledger, p_id: int) -> dict[int, Location]:
    """What a successor does: it ends the nameless, and the others, by number of name, are its."""
    own = {}
    for held in registry.sessions():
        if held.p_id != p_id:
            continue
        if held.name:
            number = NAMES.index(held.name)
            own[number] = Location(p_id, held.t_id, held.slot, held.generation)
            assert held.progress in (0, number)
            registry.progress[held.slot] = number
        else:
            assert registry.free(held.slot, held.generation)
    ledger.hand_over(p_id, set(own))
    return own


def work(
    registry: Registry,
    ledger: Ledger,
    p_id: int,
    *,
    seed: str,
    steps: int,
    is_fatal: bool = False,
) -> None:
    """A worker: adopt what the predecessor left, then churn in every thread."""
    own = adopt(registry, ledger, p_id)
    churns = [
        Churn(registry, ledger, (p_id, t_id), f"{seed} {t_id}", is_fatal) for t_id in range(THREADS)
    ]
    for number, location in own.items():
        churns[location.t_id].own[number] = location
    in_threads([lambda churn=churn: churn.run(steps) for churn in churns])  # type: ignore[misc]


def in_threads(bodies: list[Callable[[], None]]) -> None:
    """Run all at once in threads that trade the GIL as often as they can; fail if one fails."""
    failures: list[BaseException] = []

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    if failures:
        raise failures[0]


@pytest.fixture
def peopled(make_registry: MakeRegistry) -> Registry:
    """A registry too small for all names, with pillars that never leave."""
    registry = make_registry(len(PILLARS) + 40, WORKERS + 1, THREADS)
    for pillar in PILLARS:
        join(registry, pillar, PILLAR_WORKER)
    return registry


def assert_owners_have_it_all(registry: Registry, ledger: Ledger) -> None:
    """With all workers at an end: their names, the pillars, and no other session."""
    assert registry.check(b"nobody") is None
    assert set(registry.names()) == set(PILLARS) | ledger.owned()
    assert registry.claimed == registry.count
    audit(registry)


def test_processes_and_threads_never_share_a_name_nor_miss_a_session(
    peopled: Registry, seed: int
) -> None:
    ledger = Ledger()
    pids = [
        fork(lambda p_id=p_id: work(peopled, ledger, p_id, seed=f"{seed} {p_id}", steps=3000))  # type: ignore[misc]
        for p_id in range(WORKERS)
    ]
    assert [wait(pid) for pid in pids] == [0] * WORKERS
    assert_owners_have_it_all(peopled, ledger)


def test_threads_of_one_process_never_share_a_name_nor_miss_a_session(
    peopled: Registry, seed: int
) -> None:
    ledger = Ledger()
    work(peopled, ledger, 0, seed=f"{seed}", steps=5000)
    assert_owners_have_it_all(peopled, ledger)


def test_no_session_is_lost_or_left_over_by_random_kills(
    peopled: Registry, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    ledger = Ledger()
    repair = Registry._repair_if_torn

    def counted_repair(registry: Registry) -> None:
        if registry._header[layout.SEQUENCE] % 2:
            ledger.count_up(ledger.repairs)
        repair(registry)

    monkeypatch.setattr(Registry, "_repair_if_torn", counted_repair)
    for number in range(STORMS):
        storm(peopled, ledger, rng, f"{seed} {number}")
        for p_id in range(WORKERS):
            adopt(peopled, ledger, p_id)
        assert_owners_have_it_all(peopled, ledger)
    for name in ledger.owned():
        end(peopled, name.lower())
    assert sorted(peopled.names()) == sorted(PILLARS)
    assert peopled.claimed == len(PILLARS)
    audit(peopled)
    print("repairs:", ledger.bytes[ledger.repairs])
    assert ledger.bytes[ledger.repairs], "no kill hit a writer: this test has tested nothing"


def storm(registry: Registry, ledger: Ledger, rng: random.Random, seed: str) -> None:
    """Replace every worker that is killed or kills itself; then let the last ones end."""
    births = count()

    def start(p_id: int) -> int:
        lot = f"{seed} {next(births)}"
        return fork(lambda: work(registry, ledger, p_id, seed=lot, steps=FOR_EVER, is_fatal=True))

    ledger.bytes[ledger.flag] = 0
    pids = {start(p_id): p_id for p_id in range(WORKERS)}
    try:
        for number in range(DEATHS_PER_STORM):
            if number % 2:
                let_work(ledger, rng)
                os.kill(rng.choice(sorted(pids)), signal.SIGKILL)
            pid, status = os.wait()
            assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            p_id = pids.pop(pid)
            pids[start(p_id)] = p_id
    finally:
        ledger.bytes[ledger.flag] = 1
        ends = [wait(pid) for pid in pids]
    assert set(ends) <= {0, -signal.SIGKILL}


def let_work(ledger: Ledger, rng: random.Random) -> None:
    """Wait until somebody has done something or died, and then for a part of what follows."""
    pulses = slice(ledger.pulses, ledger.flag)
    before = ledger.bytes[pulses]
    look_only = os.WEXITED | os.WNOHANG | os.WNOWAIT
    until(lambda: ledger.bytes[pulses] != before or os.waitid(os.P_ALL, 0, look_only))
    time.sleep(rng.random() * 0.003)
