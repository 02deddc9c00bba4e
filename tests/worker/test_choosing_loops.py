"""Clients fill one loop of a worker after the other, or all of them alike."""

from __future__ import annotations

from prefork_chat.worker.acceptor import choose_loops


def test_a_loop_is_filled_before_the_next_one() -> None:
    assert choose_loops([0, 0], 3, filled=2) == [0, 0, 1]
    assert choose_loops([1, 0], 3, filled=2) == [0, 1, 1]


def test_loops_that_are_full_get_clients_alike() -> None:
    assert choose_loops([2, 2, 2], 6, filled=2) == [0, 1, 2, 0, 1, 2]
    assert choose_loops([5, 3], 3, filled=2) == [1, 1, 0]


def test_without_a_bound_all_get_clients_alike() -> None:
    assert choose_loops([0, 0, 0], 6, filled=0) == [0, 1, 2, 0, 1, 2]
    assert choose_loops([4, 1], 2, filled=0) == [1, 1]


def test_loads_are_left_as_they_are() -> None:
    loads = [0, 0]
    choose_loops(loads, 4, filled=0)
    assert loads == [0, 0]
