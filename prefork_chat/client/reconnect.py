"""When to connect again: at once after a connection that was good, then less and less often.

Called by `conversation`. Everybody's client notices at the same moment that a server has gone, so
the waits are spread by chance, which is passed in. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 30.0
_LENGTHS: Final = 12
"""Doublings after which the longest wait has been reached for sure."""


class BackOff:
    """The waits between attempts. `chance` returns a number from 0 to 1."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._failures = 0

    def succeeded(self) -> None:
        """Begin anew: somebody has been let in."""
        self._failures = 0

    def next_wait(self) -> float:
        """Return how many seconds to wait before the next attempt.

        It doubles from 0.25 to 30 s, of which half to all is waited.
        """
        longest: float = min(
            _FIRST_SECONDS * 2.0 ** min(self._failures, _LENGTHS), _LONGEST_SECONDS
        )
        self._failures += 1
        return longest * (0.5 + self._chance() / 2)
