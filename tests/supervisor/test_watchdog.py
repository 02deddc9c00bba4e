from __future__ import annotations

from signal import SIGABRT, SIGKILL

from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.watchdog import Pulse, Watchdog

PERIOD = 10.0


class Ward:
    """A watchdog over workers whose pids are 100 + p_id, and the clock that its tests turn."""

    def __init__(self, workers: int = 1) -> None:
        self.watchdog = Watchdog(PERIOD)
        self.now = 1000.0
        self.beats = dict.fromkeys(range(workers), self.now)

    def pulses(self) -> list[Pulse]:
        return [
            Pulse(p_id, 100 + p_id, int(beat * NANOSECONDS)) for p_id, beat in self.beats.items()
        ]

    def check_at(self, now: float, writer_pid: int = 0) -> list[tuple[int, int]]:
        self.now = now
        orders = self.watchdog.check(self.pulses(), writer_pid, int(now * NANOSECONDS))
        return [(order.pid, order.signal) for order in orders]

    def next_check(self) -> float:
        deadline = self.watchdog.next_check_ns(self.pulses())
        assert deadline is not None
        return deadline / NANOSECONDS


def test_a_beating_heart_is_left_alone() -> None:
    ward = Ward()
    for now in range(1000, 1100):
        ward.beats[0] = float(now)
        assert ward.check_at(float(now)) == []


def test_a_heart_that_stopped_is_aborted_once_a_period_is_over() -> None:
    ward = Ward()
    assert ward.check_at(1009.9) == []
    assert ward.next_check() == 1010.0
    assert ward.check_at(1010.0) == [(100, SIGABRT)]


def test_kill_comes_a_second_after_abort() -> None:
    ward = Ward()
    ward.check_at(1010.0)
    assert ward.check_at(1010.9) == []
    assert ward.next_check() == 1011.0
    assert ward.check_at(1011.0) == [(100, SIGKILL)]


def test_kills_come_at_most_once_a_second() -> None:
    ward = Ward()
    signals = [
        ward.check_at(1010.0 + tick / 100) for tick in range(1001)
    ]  # 10 s, a look each 10 ms
    assert sum(map(len, signals)) == 1 + 10


def test_a_sentence_stands_though_the_heart_beats_again() -> None:
    """A stopped process that is continued runs into its SIGABRT; it must not linger half dead."""
    ward = Ward()
    ward.check_at(1010.0)
    ward.beats[0] = 1010.5
    assert ward.check_at(1011.0) == [(100, SIGKILL)]


def test_a_successor_starts_with_a_clean_record() -> None:
    ward = Ward()
    ward.check_at(1010.0)
    ward.beats = {}
    assert ward.check_at(1010.5) == []
    ward.beats = {0: 1010.6}
    assert ward.check_at(1015.0) == []
    assert ward.check_at(1020.6) == [(100, SIGABRT)]


def test_only_the_registrys_writer_goes_when_all_stand_still() -> None:
    ward = Ward(workers=3)
    assert ward.check_at(1010.0, writer_pid=101) == [(101, SIGABRT)]
    assert ward.check_at(1011.0, writer_pid=101) == [(101, SIGKILL)]
    del ward.beats[1]
    assert ward.check_at(1012.0) == []
    ward.beats = dict.fromkeys((0, 2), 1012.0)
    assert ward.check_at(1021.0) == []


def test_who_waited_for_a_writer_is_spared_even_if_its_own_last_beat_is_older() -> None:
    ward = Ward(workers=2)
    ward.beats = {0: 1000.0, 1: 1000.9}
    assert ward.check_at(1010.0, writer_pid=101) == []
    assert ward.check_at(1010.9, writer_pid=101) == [(101, SIGABRT)]


def test_the_spared_get_one_more_period_and_not_two() -> None:
    ward = Ward(workers=2)
    ward.check_at(1010.0, writer_pid=101)
    del ward.beats[1]
    assert ward.check_at(1011.0) == []
    assert ward.check_at(1019.9) == []
    assert ward.check_at(1020.0) == [(100, SIGABRT)]


def test_a_healthy_writer_spares_nobody() -> None:
    ward = Ward(workers=2)
    ward.beats[1] = 1009.0
    assert ward.check_at(1010.0, writer_pid=101) == [(100, SIGABRT)]


def test_a_writer_that_is_no_worker_spares_nobody() -> None:
    assert Ward().check_at(1010.0, writer_pid=4711) == [(100, SIGABRT)]


def test_nobody_is_blamed_for_the_supervisors_own_absence() -> None:
    """Ctrl-Z and `fg` after a minute: the supervisor runs again before its workers do."""
    ward = Ward(workers=2)
    ward.check_at(1000.0)
    assert ward.check_at(1060.0) == []
    ward.beats[0] = 1060.5
    assert ward.check_at(1069.9) == []
    assert ward.check_at(1070.0) == [(101, SIGABRT)]


def test_without_workers_there_is_no_deadline() -> None:
    assert Watchdog(PERIOD).next_check_ns([]) is None
