from __future__ import annotations

import os
import signal

import pytest

from prefork_chat.config import RespawnConfig
from prefork_chat.registry.endings import Ending, describe_status
from prefork_chat.registry.table import Order
from prefork_chat.supervisor.children import (
    NANOSECONDS,
    Children,
    Ended,
    Phase,
)

POLICY = RespawnConfig(
    quick_death_seconds=1.0, backoff_min_seconds=0.1, backoff_max_seconds=5.0, max_crashes=10
)
EXIT_0 = 0
EXIT_3 = 3 << 8
KILLED = int(signal.SIGKILL)


def seconds(value: float) -> int:
    return int(value * NANOSECONDS)


class Life:
    """A table of two workers, and the clock that its tests turn."""

    def __init__(self, chance: float = 0.0, policy: RespawnConfig = POLICY) -> None:
        self.children = Children(2, 4, policy, lambda: chance)
        self.now = seconds(1000)
        self.last_pid = 100

    def fork(self, p_id: int = 0) -> int:
        self.last_pid += 1
        self.children.next_generation(p_id)
        self.children.forked(p_id, self.last_pid, self.now)
        return self.last_pid

    def end(self, pid: int, status: int, after: float) -> Ended:
        self.now += seconds(after)
        ended = self.children.ended(pid, status, self.now)
        assert ended is not None
        return ended

    def due(self, after: float = 0.0) -> list[int]:
        return [child.p_id for child in self.children.due(self.now + seconds(after))]


def test_everybody_is_due_at_the_start() -> None:
    assert Life().due() == [0, 1]


def test_a_forked_worker_is_not_due() -> None:
    life = Life()
    life.fork(0)
    assert life.due(after=1e6) == [1]


def test_each_fork_of_a_p_id_is_a_new_generation() -> None:
    life = Life()
    first = life.fork()
    assert life.end(first, EXIT_3, after=60).generation == 1
    assert life.end(life.fork(), EXIT_3, after=60).generation == 2


def test_a_ready_worker_that_exits_0_has_retired_and_its_successor_is_due_at_once() -> None:
    life = Life()
    pid = life.fork()
    life.children.became_ready(0)
    ended = life.end(pid, EXIT_0, after=0.001)
    assert (ended.ending, ended.crashes, ended.delay_seconds) == (Ending.RETIRED, 0, 0.0)
    assert 0 in life.due()


def test_a_worker_that_exits_0_before_it_was_ready_has_crashed() -> None:
    life = Life()
    assert life.end(life.fork(), EXIT_0, after=0.001).ending is Ending.CRASHED


def test_a_quick_death_has_crashed_though_it_was_ready() -> None:
    life = Life()
    pid = life.fork()
    life.children.became_ready(0)
    assert life.end(pid, KILLED, after=0.9).ending is Ending.CRASHED
    assert 0 not in life.due(after=0.09)
    assert 0 in life.due(after=0.2)


def test_a_death_after_a_longer_life_has_a_successor_at_once() -> None:
    life = Life()
    pid = life.fork()
    life.children.became_ready(0)
    ended = life.end(pid, KILLED, after=1.1)
    assert (ended.ending, ended.delay_seconds) == (Ending.FAILED, 0.0)
    assert 0 in life.due()


def test_a_start_that_took_long_and_never_got_ready_has_crashed() -> None:
    life = Life()
    assert life.end(life.fork(), int(signal.SIGABRT), after=60).ending is Ending.CRASHED


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_delays_double_within_their_bounds(chance: float) -> None:
    life = Life(chance)
    delays = [life.end(life.fork(), EXIT_3, after=10).delay_seconds for _ in range(9)]
    assert all(0.1 <= delay <= 5.0 for delay in delays)
    assert delays == sorted(delays)
    assert delays[1:4] == pytest.approx([delay * 2 for delay in delays[:3]])
    assert delays[-1] >= 2.5


def test_chance_spreads_the_delays() -> None:
    low, high = (Life(chance) for chance in (0.0, 0.999))
    assert (
        high.end(high.fork(), EXIT_3, 0).delay_seconds
        > low.end(low.fork(), EXIT_3, 0).delay_seconds
    )


def test_a_life_that_is_long_enough_starts_the_count_anew() -> None:
    life = Life()
    for _ in range(5):
        life.end(life.fork(), EXIT_3, after=0.1)
    pid = life.fork()
    life.children.became_ready(0)
    life.end(pid, KILLED, after=10)
    assert life.end(life.fork(), EXIT_3, after=0.1).crashes == 1


def test_crashes_are_forgotten_when_a_successor_lives_on() -> None:
    life = Life()
    life.end(life.fork(), EXIT_3, after=0.1)
    life.fork()
    life.children.settle(life.now + seconds(5))
    (child, _) = life.children
    assert child.crashes == 1, "it has not said that it is ready"
    assert life.children.next_settle_ns() is None
    life.children.became_ready(0)
    assert life.children.next_settle_ns() == life.now + seconds(1)
    life.children.settle(life.now + seconds(0.9))
    assert child.crashes == 1
    life.children.settle(life.now + seconds(1))
    assert child.crashes == 0
    assert life.children.next_settle_ns() is None


def test_the_tenth_crash_in_a_row_exhausts_the_table() -> None:
    life = Life()
    for crash in range(1, 11):
        assert life.children.exhausted() is None
        assert life.end(life.fork(1), EXIT_3, after=0.1).crashes == crash
    exhausted = life.children.exhausted()
    assert exhausted is not None
    assert (exhausted.p_id, exhausted.crashes) == (1, 10)


def test_crashes_of_different_workers_do_not_add_up() -> None:
    life = Life()
    for _ in range(9):
        life.end(life.fork(0), EXIT_3, after=0.1)
        life.end(life.fork(1), EXIT_3, after=0.1)
    assert life.children.exhausted() is None


def test_a_refused_fork_counts_as_a_crash_and_is_tried_again_later() -> None:
    life = Life()
    life.children.next_generation(0)
    assert life.children.fork_failed(0, life.now) == pytest.approx(0.1)
    assert 0 not in life.due(after=0.05)
    assert 0 in life.due(after=0.11)
    assert life.children.next_generation(0) == 2


def test_the_end_of_a_stranger_is_nobodys_end() -> None:
    life = Life()
    life.fork()
    assert life.children.ended(99, EXIT_3, life.now) is None
    assert len(life.children.living()) == 1


def test_nobody_is_forked_once_the_table_is_stopping() -> None:
    life = Life()
    pid = life.fork()
    life.children.stop()
    assert life.end(pid, KILLED, after=0.1).ending is Ending.STOPPED
    assert life.due(after=1e6) == []
    assert life.children.next_due_ns() is None
    assert life.children.living() == []


def test_the_next_deadline_is_the_earliest() -> None:
    life = Life()
    life.fork(1)
    assert life.end(life.fork(0), EXIT_3, after=0).delay_seconds == pytest.approx(0.1)
    assert life.children.next_due_ns() == life.now + seconds(0.1)


def test_readiness_is_news_once() -> None:
    life = Life()
    assert not life.children.became_ready(0)
    pid = life.fork()
    assert life.children.became_ready(0)
    assert not life.children.became_ready(0)
    assert life.children.ready_count() == 1
    child = life.children.find(pid)
    assert child is not None
    assert child.phase is Phase.READY


def test_an_end_is_described_in_words() -> None:
    assert describe_status(EXIT_3) == "exit 3"
    assert describe_status(KILLED) == "SIGKILL"
    assert describe_status(int(signal.SIGSEGV) | 0x80) == "SIGSEGV"
    assert describe_status(40) == "signal 40"
    assert os.waitstatus_to_exitcode(40) == -40


def test_places_beyond_the_wanted_workers_are_nobodys() -> None:
    life = Life()
    assert life.children.places == 4
    assert [child.p_id for child in life.children] == [0, 1]
    assert life.children[3].phase is Phase.ABSENT


def test_a_worker_more_is_due_at_once() -> None:
    life = Life()
    life.fork(0)
    life.fork(1)
    life.children.resize(3, life.now)
    assert life.due() == [2]


def test_a_surplus_worker_is_told_once_it_is_ready_and_told_again_if_the_order_changes() -> None:
    life = Life()
    life.fork(1)
    life.children.resize(1, life.now)
    assert life.children.to_be_told(Order.LEAVE) == []
    life.children.became_ready(1)
    (child,) = life.children.to_be_told(Order.LEAVE)
    child.told = Order.LEAVE
    assert life.children.to_be_told(Order.LEAVE) == []
    assert life.children.to_be_told(Order.DRAIN) == [child]


def test_a_surplus_worker_that_exits_0_and_has_no_session_has_left() -> None:
    life = Life()
    pid = life.fork(1)
    life.children.became_ready(1)
    life.children.resize(1, life.now)
    ended = life.children.ended(pid, EXIT_0, life.now, is_vacant=True)
    assert ended is not None
    assert ended.ending is Ending.LEFT
    assert life.children[1].phase is Phase.ABSENT
    assert life.due() == [0]
    life.children.resize(2, life.now)
    assert life.due() == [0, 1]
    assert life.children.next_generation(1) == 2


@pytest.mark.parametrize(("status", "is_vacant"), [(EXIT_0, False), (KILLED, True), (EXIT_3, True)])
def test_a_surplus_worker_that_ends_otherwise_has_a_successor(status: int, is_vacant: bool) -> None:
    """It left sessions, or what it had begun for others."""
    life = Life()
    pid = life.fork(1)
    life.children.became_ready(1)
    life.children.resize(1, life.now)
    life.now += seconds(60)
    assert life.children.ended(pid, status, life.now, is_vacant=is_vacant) is not None
    assert life.due() == [0, 1]
    life.fork(1)
    life.children.became_ready(1)
    assert [child.p_id for child in life.children.to_be_told(Order.LEAVE)] == [1]


def test_a_worker_that_is_wanted_again_before_it_has_left_is_replaced() -> None:
    life = Life()
    pid = life.fork(1)
    life.children.became_ready(1)
    life.children.resize(1, life.now)
    life.children.resize(2, life.now)
    ended = life.children.ended(pid, EXIT_0, life.now, is_vacant=True)
    assert ended is not None
    assert ended.ending is Ending.RETIRED
    assert life.due() == [0, 1]


def test_a_worker_that_has_left_may_be_recalled_and_is_surplus_all_the_same() -> None:
    life = Life()
    pid = life.fork(1)
    life.children.became_ready(1)
    assert not life.children.recall(1, life.now), "it is there"
    life.children.resize(1, life.now)
    life.children.ended(pid, EXIT_0, life.now, is_vacant=True)
    assert life.children.recall(1, life.now)
    assert not life.children.recall(1, life.now), "it has been recalled"
    assert life.due() == [0, 1]
    life.fork(1)
    life.children.became_ready(1)
    assert [child.p_id for child in life.children.to_be_told(Order.LEAVE)] == [1]


def test_nobody_is_recalled_once_the_table_is_stopping() -> None:
    life = Life()
    life.children.stop()
    assert not life.children.recall(3, life.now)


def test_only_wanted_workers_count_as_ready() -> None:
    life = Life()
    for p_id in (0, 1):
        life.fork(p_id)
        life.children.became_ready(p_id)
    life.children.resize(1, life.now)
    assert life.children.ready_count() == 1
