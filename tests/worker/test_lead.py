"""The lead goes round among threads, and whoever has it gives turns to all stations."""

from __future__ import annotations

import os
import threading
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from prefork_chat.worker import lead
from prefork_chat.worker.lead import Lead

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_SECONDS = 30.0

NEVER = monotonic() + 3600
"""Monotonic time that no test lives to see."""


class Bell:
    """A station that takes a turn when it is rung, and is over after so many."""

    def __init__(self, turns: int, turn_at: float = NEVER) -> None:
        self.turn_at = turn_at
        self.turns_left = turns
        self.threads: list[int] = []
        self.overlaps = 0
        self.visits = 0
        self.passes_on = False
        self._is_busy = False
        self._rung = os.eventfd(0, os.EFD_NONBLOCK)

    def ring(self) -> None:
        os.eventfd_write(self._rung, 1)

    def close(self) -> None:
        os.close(self._rung)

    def fileno(self) -> int:
        return self._rung

    @property
    def is_over(self) -> bool:
        return self.turns_left <= 0

    def take_turn(self) -> bool:
        try:
            os.eventfd_read(self._rung)
        except BlockingIOError:
            if monotonic() < self.turn_at:
                self.visits += 1
                return False
        self.overlaps += self._is_busy
        self._is_busy = True
        self.threads.append(threading.get_ident())
        self.turns_left -= 1
        self.turn_at = NEVER
        if not self.is_over:
            self.ring()
        self._is_busy = False
        return self.passes_on


@pytest.fixture
def bells() -> Iterator[list[Bell]]:
    made: list[Bell] = []
    yield made
    for bell in made:
        bell.close()


def follow(over: Lead, threads: int) -> None:
    """Have so many threads follow until all is over."""
    following = [
        threading.Thread(target=over.follow, args=(number,), daemon=True)
        for number in range(threads)
    ]
    for thread in following:
        thread.start()
    for thread in following:
        thread.join(LONG_SECONDS)
        assert not thread.is_alive()


def test_every_thread_has_the_lead_in_turn(
    bells: list[Bell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lead, "SHIFT_SECONDS", 0.0)
    bells += [Bell(50), Bell(50)]
    for bell in bells:
        bell.ring()
    follow(Lead(bells, 3), 3)
    first, second, third = bells[0].threads[:3]
    assert len({first, second, third}) == 3
    assert bells[0].threads[3:6] == [first, second, third]
    assert not bells[0].overlaps


def test_the_lead_is_kept_for_a_shift(bells: list[Bell], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "SHIFT_SECONDS", LONG_SECONDS)
    bells.append(Bell(20))
    bells[0].ring()
    follow(Lead(bells, 2), 2)
    assert len(bells[0].threads) == 20
    assert len(set(bells[0].threads)) == 1


def test_a_turn_comes_when_it_is_due(bells: list[Bell]) -> None:
    due_at = monotonic() + 0.05
    bells.append(Bell(1, due_at))
    follow(Lead(bells, 1), 1)
    assert monotonic() >= due_at
    assert len(bells[0].threads) == 1


def test_a_station_that_is_over_stops_nobody(bells: list[Bell]) -> None:
    short, long = Bell(1), Bell(30)
    bells += [short, long]
    for bell in bells:
        bell.ring()
    short.ring()
    follow(Lead(bells, 2), 2)
    assert len(short.threads) == 1
    assert len(long.threads) == 30


def test_only_who_has_something_to_do_has_a_turn(bells: list[Bell]) -> None:
    busy, idle = Bell(20), Bell(1, turn_at=monotonic() + 0.2)
    bells += [busy, idle]
    busy.ring()
    follow(Lead(bells, 1), 1)
    assert len(busy.threads) == 20
    assert not idle.visits


def test_who_passes_something_on_has_those_behind_it_look(bells: list[Bell]) -> None:
    before, giver, behind = (Bell(turns, monotonic() + 0.2) for turns in (1, 20, 1))
    bells += [before, giver, behind]
    giver.passes_on = True
    giver.ring()
    follow(Lead(bells, 1), 1)
    assert not before.visits
    assert behind.visits == 20
