from __future__ import annotations

from signal import SIGCONT, SIGKILL, SIGTERM

from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.stopping import Stop

PIDS = (101, 102)


def at(seconds: float) -> int:
    return int(seconds * NANOSECONDS)


def sent(stop: Stop, now: float, pids: tuple[int, ...] = PIDS) -> list[tuple[int, int]]:
    return [(order.pid, order.signal) for order in stop.check(pids, at(now))]


def test_everybody_is_asked_once_and_woken_if_stopped() -> None:
    stop = Stop(5.0, at(0))
    asked = [(101, SIGTERM), (101, SIGCONT), (102, SIGTERM), (102, SIGCONT)]
    assert sent(stop, 0) == asked
    assert sent(stop, 1) == []


def test_who_still_lives_after_stop_seconds_is_killed() -> None:
    stop = Stop(5.0, at(0))
    sent(stop, 0)
    assert sent(stop, 4.9) == []
    assert stop.next_check_ns() == at(5)
    assert sent(stop, 5, (102,)) == [(102, SIGKILL)]


def test_a_second_signal_kills_now() -> None:
    stop = Stop(5.0, at(0))
    sent(stop, 0)
    stop.hurry(at(1))
    assert sent(stop, 1) == [(101, SIGKILL), (102, SIGKILL)]


def test_kills_come_at_most_once_a_second_however_many_signals_come() -> None:
    stop = Stop(0.0, at(0))
    kills = 0
    for tick in range(301):
        stop.hurry(at(tick / 100))
        kills += sent(stop, tick / 100, (101,)).count((101, SIGKILL))
    assert kills == 4


def test_a_process_that_survives_sigkill_is_given_up() -> None:
    stop = Stop(0.0, at(0))
    sent(stop, 0)
    assert not stop.is_given_up(at(9.9))
    assert stop.is_given_up(at(10))


def test_nobody_is_given_up_before_the_first_kill() -> None:
    stop = Stop(60.0, at(0))
    sent(stop, 0)
    assert not stop.is_given_up(at(59))
