from __future__ import annotations

from signal import SIGCONT, SIGKILL, SIGTERM

from prefork_chat.config import RespawnConfig
from prefork_chat.registry.table import Order
from prefork_chat.supervisor.children import NANOSECONDS, Children
from prefork_chat.supervisor.replacing import CRASHES, Replacing, Round

EXIT_0 = 0
EXIT_3 = 3 << 8


class Daemon:
    """A table of workers whose pids are 100 * p_id + generation, and the clock."""

    def __init__(self, workers: int = 3) -> None:
        self.children = Children(workers, 4, RespawnConfig(max_crashes=10), lambda: 0.0)
        self.replacing = Replacing()
        self.now = 1000 * NANOSECONDS
        for p_id in range(workers):
            self.start(p_id)

    def start(self, p_id: int) -> None:
        self.fork(p_id)
        self.children.became_ready(p_id)

    def fork(self, p_id: int) -> None:
        generation = self.children.next_generation(p_id)
        self.children.forked(p_id, 100 * p_id + generation, self.now)

    def end(self, p_id: int, status: int = EXIT_0) -> None:
        assert self.children.ended(self.children[p_id].pid, status, self.now) is not None

    def ask(self, *p_ids: int) -> Round:
        targets = {p_id: self.children[p_id].generation for p_id in p_ids}
        return self.replacing.begin("test", targets, self.now)

    def check(self, after: float = 0.0) -> list[tuple[int, int]]:
        self.now += int(after * NANOSECONDS)
        return [(s.pid, s.signal) for s in self.replacing.check(self.children, self.now)]

    def settle(self) -> list[Round]:
        return self.replacing.settle(self.children)


def told(pid: int) -> list[tuple[int, int]]:
    return [(pid, SIGTERM), (pid, SIGCONT)]


def test_without_a_round_nobody_is_told() -> None:
    daemon = Daemon()
    assert daemon.check() == []
    assert daemon.replacing.next_check_ns() is None


def test_workers_go_one_after_the_other_each_when_the_last_successor_is_ready() -> None:
    daemon = Daemon()
    round_ = daemon.ask(0, 1, 2)
    for p_id in range(3):
        assert daemon.check() == told(100 * p_id + 1)
        assert daemon.children[p_id].told is Order.HAND_OVER
        assert daemon.check() == [], "told once"
        daemon.end(p_id)
        assert daemon.check() == []
        daemon.fork(p_id)
        assert daemon.check() == []
        assert daemon.settle() == []
        daemon.children.became_ready(p_id)
    assert daemon.settle() == [round_]
    assert (round_.is_over, round_.failure) == (True, "")
    assert daemon.check() == []
    assert not daemon.replacing.is_under_way


def test_only_who_was_asked_for_is_replaced() -> None:
    daemon = Daemon()
    round_ = daemon.ask(1)
    assert daemon.check() == told(101)
    daemon.end(1)
    daemon.start(1)
    assert daemon.settle() == [round_]
    assert daemon.check() == []


def test_a_second_round_meanwhile_replaces_the_successors_of_the_first() -> None:
    daemon = Daemon(workers=2)
    first = daemon.ask(0, 1)
    daemon.check()
    daemon.end(0)
    daemon.start(0)
    second = daemon.ask(0, 1)
    order = []
    while daemon.replacing.is_under_way:
        daemon.settle()
        for pid, number in daemon.check():
            if number == SIGTERM:
                order.append(pid)
                daemon.end(pid // 100)
                daemon.start(pid // 100)
    assert order == [2, 101]
    assert first.is_over
    assert second.is_over


def test_nobody_goes_while_somebody_else_is_not_ready() -> None:
    daemon = Daemon()
    daemon.ask(0)
    daemon.end(2, EXIT_3)
    assert daemon.check() == []
    daemon.start(2)
    assert daemon.check() == told(1)


def test_who_dies_by_itself_meanwhile_needs_not_be_told() -> None:
    daemon = Daemon(workers=1)
    round_ = daemon.ask(0)
    daemon.end(0, EXIT_3)
    daemon.start(0)
    assert daemon.settle() == [round_]
    assert daemon.check() == []


def test_who_does_not_go_is_killed_once_a_second() -> None:
    daemon = Daemon()
    daemon.ask(0)
    assert daemon.check() == told(1)
    assert daemon.check(after=4.9) == []
    assert daemon.replacing.next_check_ns() == daemon.now + NANOSECONDS // 10
    kills = [daemon.check(after=0.1) for _ in range(31)]
    assert [kill for at_once in kills for kill in at_once] == [(1, SIGKILL)] * 4


def test_who_is_told_to_leave_instead_has_all_the_time_he_needs() -> None:
    daemon = Daemon()
    daemon.ask(2)
    assert daemon.check() == told(201)
    daemon.children.resize(2, daemon.now)
    daemon.children[2].told = Order.LEAVE
    assert daemon.check(after=60) == []
    assert daemon.replacing.next_check_ns() is None


def test_a_surplus_worker_is_nobodys_to_replace() -> None:
    daemon = Daemon()
    round_ = daemon.ask(2)
    daemon.children.resize(2, daemon.now)
    assert daemon.check() == []
    assert daemon.settle() == [round_]
    assert not round_.failure


def test_successors_that_crash_again_and_again_fail_the_round_and_spare_the_others() -> None:
    daemon = Daemon()
    round_ = daemon.ask(0, 1, 2)
    daemon.check()
    daemon.end(0)
    for crash in range(1, CRASHES + 1):
        assert daemon.settle() == []
        daemon.fork(0)
        daemon.end(0, EXIT_3)
        assert daemon.children[0].crashes == crash
    assert daemon.settle() == [round_]
    assert round_.failure == f"the new worker 0 has crashed {CRASHES} times in a row"
    daemon.start(0)
    assert daemon.check() == []


def test_crashes_before_the_round_do_not_fail_it() -> None:
    """To load a better configuration may be the cure."""
    daemon = Daemon()
    for _ in range(CRASHES):
        daemon.end(0, EXIT_3)
        daemon.fork(0)
    daemon.end(0, EXIT_3)
    round_ = daemon.ask(0)
    assert daemon.settle() == []
    daemon.start(0)
    assert daemon.settle() == [round_]
    assert not round_.failure


def test_rounds_that_are_abandoned_say_why() -> None:
    daemon = Daemon()
    round_ = daemon.ask(0, 1)
    assert daemon.replacing.abandon("the daemon is stopping") == [round_]
    assert (round_.is_over, round_.failure) == (True, "the daemon is stopping")
    assert daemon.check() == []
