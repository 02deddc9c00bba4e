"""The last ends of workers are remembered, in order, and no half of one is ever read."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from prefork_chat.registry.endings import End, Ending, Endings
from prefork_chat.registry.layout import ENDINGS, LINE_BYTES, LINE_WORDS

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry


def memory() -> memoryview[int]:
    return memoryview(bytearray(ENDINGS * LINE_BYTES)).cast("q")


def add(endings: Endings, generation: int) -> None:
    endings.add(
        p_id=3,
        generation=generation,
        pid=4711,
        ending=Ending.FAILED,
        status=int(signal.SIGKILL),
        ended_ns=1_700_000_000_500_000_000,
        lived_ns=2_500_000_000,
    )


def test_a_fresh_registry_knows_of_no_end(registry: Registry) -> None:
    assert registry.endings.recent() == []


def test_an_end_is_told_in_words(registry: Registry) -> None:
    add(registry.endings, 7)
    assert registry.endings.recent() == [
        End(
            number=1,
            p_id=3,
            generation=7,
            pid=4711,
            meaning="failed",
            how="SIGKILL",
            ended_at=1_700_000_000.5,
            lived_seconds=2.5,
        )
    ]


def test_the_latest_come_first_and_the_oldest_are_forgotten() -> None:
    words = memory()
    for generation in range(1, 3 * ENDINGS):
        add(Endings(words), generation)  # another supervisor each time: numbers go on
    found = Endings(words).recent()
    assert [end.generation for end in found] == list(range(3 * ENDINGS - 1, 2 * ENDINGS - 1, -1))
    assert [end.number for end in found] == [end.generation for end in found]


def test_an_end_that_is_being_written_is_left_out() -> None:
    words = memory()
    endings = Endings(words)
    for generation in range(1, 4):
        add(endings, generation)
    words[2 * LINE_WORDS] = 0
    assert [end.number for end in endings.recent()] == [3, 1]
