"""The places of consoles: words that do not get into each other's way."""

from __future__ import annotations

import itertools
from array import array

from prefork_chat.inheritance import sender_of_console, senders
from prefork_chat.registry.consoles import WATCHED, Consoles
from prefork_chat.registry.layout import CONSOLES, LINE_WORDS, Layout

LOOPS = 6


def fresh() -> Consoles:
    size = Layout(10, 3, 2).consoles
    words = array("q", bytes(size.stop - size.start))
    assert len(words) == LINE_WORDS * (1 + LOOPS)
    return Consoles(memoryview(words))


def test_nobody_watches_at_first() -> None:
    consoles = fresh()
    assert consoles.watched == 0
    assert consoles.visits() == [0] * CONSOLES
    assert list(consoles.watching()) == []
    assert all(consoles.lost(place) == 0 for place in range(CONSOLES))


def test_every_place_comes_and_goes_by_itself() -> None:
    for first, second in itertools.permutations(range(CONSOLES), 2):
        consoles = fresh()
        consoles.begin(first, 10, wants_events=True)
        consoles.begin(second, 11, wants_events=False)
        assert list(consoles.watching()) == [first]
        assert (consoles.visit(first), consoles.visit(second)) == (10, 11)
        consoles.end(second)
        consoles.end(second)
        assert consoles.words[WATCHED] == 1 << first
        consoles.end(first)
        assert consoles.words[WATCHED] == 0
        assert consoles.visits() == [0] * CONSOLES


def test_losses_are_summed_over_loops_for_each_place() -> None:
    consoles = fresh()
    consoles.begin(1, 99, wants_events=True)
    for loop, place in itertools.product(range(LOOPS), range(CONSOLES)):
        consoles.lose(loop, place, 10**place)
        consoles.lose(loop, place, 10**place)
    assert [consoles.lost(place) for place in range(CONSOLES)] == [
        2 * LOOPS * 10**place for place in range(CONSOLES)
    ]
    assert consoles.visits() == [0, 99, 0, 0]


def test_senders_of_places_are_the_last_of_all() -> None:
    indexes = [sender_of_console(3, 2, place) for place in range(CONSOLES)]
    assert indexes[-1] == senders(3, 2) - 1
    assert len(set(indexes)) == CONSOLES
    assert min(indexes) >= LOOPS
