"""Several processes of several threads at once, and one after the other killed at random.

What must hold all the time: a name has one owner; a session that lives is found by everybody, where
it is; and after a storm of kills the registry is what the survivors own, no more and no less.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.registry import NameInUse, Registry, RegistryFull
from tests.registry.audit import audit
from tests.registry.lines import die_before_line
from tests.registry.processes import fork, until, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.registry.registry import Location
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

    Byte n belongs to the session that has name n; a dead worker's bytes to the test. Behind them
    one byte per worker, which it counts up while it works; the flag by which the test ends a storm;
    and how often a process found a torn registry (modulo 256, written under the write semaphore).
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

    def forget(self, p_id: int) -> None:
        for number in range(len(NAMES)):
            if self.bytes[number] == p_id + 1:
                self.bytes[number] = 0

    def owned(self) -> set[bytes]:
        return {name for number, name in enumerate(NAMES) if self.bytes[number]}

    def count_up(self, at: int) -> None:
        self.bytes[at] = (self.bytes[at] + 1) % 256


class Churn:
    """One thread of a worker: it joins and leaves under random names, and looks for others.

    A fatal one kills its process now and then, before a random line of a write.
    """

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        place: tuple[int, int, int],
        seed: int,
        is_fatal: bool,
    ) -> None:
        self.registry = registry
        self.ledger = ledger
        self.place = place
        self.rng = random.Random(f"{seed} {place}")
        self.is_fatal = is_fatal
        self.own: dict[int, Location] = {}

    def run(self, steps: int) -> None:
        """Go on for `steps` steps or until the flag is up; who has joined then stays."""
        for _ in range(steps):
            if self.ledger.bytes[self.ledger.flag]:
                return
            number = self.rng.randrange(len(NAMES))
            if self.is_fatal and self.rng.random() < 0.01:
                line = self.rng.randrange(1, 80)
                die_before_line(line, lambda: self.step(number))  # noqa: B023
            else:
                self.step(number)
            self.look(number)
            self.ledger.count_up(self.ledger.pulses + self.place[0])

    def step(self, number: int) -> None:
        if number in self.own:
            self.leave(number)
        else:
            self.join(number)

    def join(self, number: int) -> None:
        name = NAMES[number]
        try:
            location = self.registry.insert(name.lower(), name, *self.place)
        except (NameInUse, RegistryFull):
            return
        self.ledger.claim(number, self.place[0])
        self.own[number] = location
        assert self.registry.check(name.lower()) == location

    def leave(self, number: int) -> None:
        location = self.own.pop(number)
        assert self.registry.check(NAMES[number].lower()) == location
        self.ledger.give_up(number, self.place[0])
        assert self.registry.delete(location.slot, location.generation)

    def look(self, number: int) -> None:
        pillar = self.rng.choice(PILLARS)
        found = self.registry.check(pillar)
        assert found is not None, f"{pillar!r} was missed"
        assert found.p_id == PILLAR_WORKER
        assert self.registry.check(b"nobody-%d" % number) is None
        if self.rng.random() < 0.02:
            assert set(PILLARS) <= set(self.registry.names())


def work(
    registry: Registry, ledger: Ledger, p_id: int, *, seed: int, steps: int, is_fatal: bool = False
) -> None:
    """A worker: sweep what the predecessor left, then churn in every thread."""
    incarnation = registry.table.incarnations[p_id]
    registry.sweep(p_id, incarnation)
    churns = [
        Churn(registry, ledger, (p_id, t_id, incarnation), seed, is_fatal)
        for t_id in range(THREADS)
    ]
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
        registry.insert(pillar, pillar, PILLAR_WORKER, 0, 1)
    return registry


def assert_survivors_own_it_all(registry: Registry, ledger: Ledger) -> None:
    """With all workers at an end, but not said to be dead: their names, the pillars, no others."""
    assert registry.check(b"nobody") is None
    assert set(registry.names()) == set(PILLARS) | ledger.owned()
    audit(registry)


def test_processes_and_threads_never_share_a_name_nor_miss_a_session(
    peopled: Registry, seed: int
) -> None:
    ledger = Ledger()
    pids = [
        fork(lambda p_id=p_id: work(peopled, ledger, p_id, seed=seed, steps=3000))  # type: ignore[misc]
        for p_id in range(WORKERS)
    ]
    assert [wait(pid) for pid in pids] == [0] * WORKERS
    assert_survivors_own_it_all(peopled, ledger)


def test_threads_of_one_process_never_share_a_name_nor_miss_a_session(
    peopled: Registry, seed: int
) -> None:
    ledger = Ledger()
    work(peopled, ledger, 0, seed=seed, steps=5000)
    assert_survivors_own_it_all(peopled, ledger)


def test_registry_is_what_survivors_own_after_random_kills(
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
    for _ in range(STORMS):
        storm(peopled, ledger, rng, seed)
        assert_survivors_own_it_all(peopled, ledger)
        for p_id in range(WORKERS):
            bury(peopled, ledger, p_id)
        assert sorted(peopled.names()) == sorted(PILLARS)
    print("repairs:", ledger.bytes[ledger.repairs])
    assert ledger.bytes[ledger.repairs], "no kill hit a writer: this test has tested nothing"


def storm(registry: Registry, ledger: Ledger, rng: random.Random, seed: int) -> None:
    """Replace every worker that is killed or kills itself; then let the last ones end."""

    def start(p_id: int) -> int:
        return fork(lambda: work(registry, ledger, p_id, seed=seed, steps=FOR_EVER, is_fatal=True))

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
            bury(registry, ledger, p_id)
            pids[start(p_id)] = p_id
    finally:
        ledger.bytes[ledger.flag] = 1
        ends = {p_id: wait(pid) for pid, p_id in pids.items()}
    assert set(ends.values()) <= {0, -signal.SIGKILL}
    for p_id, end in ends.items():
        if end:
            bury(registry, ledger, p_id)


def bury(registry: Registry, ledger: Ledger, p_id: int) -> None:
    """What the supervisor does when a worker is dead, and before it starts the next."""
    ledger.forget(p_id)
    registry.table.end(p_id)
    registry.table.begin(p_id, 1 - registry.table.incarnations[p_id], 1)


def let_work(ledger: Ledger, rng: random.Random) -> None:
    """Wait until somebody has done something or died, and then for a part of what follows."""
    pulses = slice(ledger.pulses, ledger.flag)
    before = ledger.bytes[pulses]
    look_only = os.WEXITED | os.WNOHANG | os.WNOWAIT
    until(lambda: ledger.bytes[pulses] != before or os.waitid(os.P_ALL, 0, look_only))
    time.sleep(rng.random() * 0.003)
