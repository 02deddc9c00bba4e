"""What has become of the directives that the console has sent: who has yet to answer.

A directive goes to several loops, and each of them answers with a count. `Answers` adds up, and
says how it ended once all have answered, or that some have not in time: a worker may be stuck, or
just be replaced. A loop whose worker was killed before it could answer has its successor say that
it was done, not how often. Pure bookkeeping; times are monotonic seconds that are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.protocol.events import Answered, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

PATIENCE_SECONDS: Final = 20.0
"""A stuck worker is replaced after `watchdog_seconds`, 10 by default, and its successor answers."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be told to the operator; `is_failure`: it did not do what he wanted."""

    text: str
    is_failure: bool = False


Word: TypeAlias = "Callable[[int, bool], Outcome]"
"""Makes the outcome of a count, and of whether it is sure: else there may have been some more."""


@dataclass(slots=True)
class _Waiting:
    loops: set[int]
    count: int
    by: float
    word: Word
    is_sure: bool = True


class Answers:
    """Directives without a final answer, by number. Owner: the console."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._waiting: dict[int, _Waiting] = {}

    @property
    def owed(self) -> int:
        """How many answers are still to come."""
        return sum(len(waiting.loops) for waiting in self._waiting.values())

    def expect(self, number: int, loops: Collection[int], now: float, word: Word) -> Outcome | None:
        """Wait for the answers of these loops; `word` makes the outcome of the count."""
        self._waiting[number] = _Waiting(set(loops), 0, now + PATIENCE_SECONDS, word)
        return self._end_if_complete(number)

    def note(self, loop: int, event: Answered | Taken) -> list[Outcome]:
        """Take an answer of a loop; one that comes twice counts once."""
        match event:
            case Answered(number, count):
                waiting = self._waiting.get(number)
                if waiting is None or loop not in waiting.loops:
                    return []
                waiting.loops.remove(loop)
                waiting.count += count
                ended = [self._end_if_complete(number)]
            case Taken(last):
                numbers = [number for number in self._waiting if number <= last]
                for number in numbers:
                    waiting = self._waiting[number]
                    waiting.is_sure = waiting.is_sure and loop not in waiting.loops
                    waiting.loops.discard(loop)
                ended = [self._end_if_complete(number) for number in numbers]
        return [outcome for outcome in ended if outcome is not None]

    def expire(self, now: float) -> list[Outcome]:
        """Give up those that have waited too long."""
        late = [number for number, waiting in self._waiting.items() if now >= waiting.by]
        return [self._give_up(self._waiting.pop(number)) for number in late]

    def next_expiry(self) -> float | None:
        """Return when `expire` has something to do."""
        return min((waiting.by for waiting in self._waiting.values()), default=None)

    def _end_if_complete(self, number: int) -> Outcome | None:
        waiting = self._waiting[number]
        if waiting.loops:
            return None
        del self._waiting[number]
        return waiting.word(waiting.count, waiting.is_sure)

    @staticmethod
    def _give_up(waiting: _Waiting) -> Outcome:
        many = len(waiting.loops)
        loops = f"{many} loop{'s' if many > 1 else ''} of the daemon"
        return Outcome(
            f"{waiting.word(waiting.count, False).text}; but {loops} did not answer",
            is_failure=True,
        )
