"""Named deadlines of a conversation; a name has one at a time.

Pure: whoever owns the timers tells them the time, and it is that for all who have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timers:
    """What is to be done when; `now` is the time in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._set: dict[str, tuple[float, Callable[[], None]]] = {}

    @property
    def next(self) -> float | None:
        """When the first is due; None if there is none."""
        return min((time for time, _ in self._set.values()), default=None)

    def set(self, name: str, time: float, action: Callable[[], None]) -> None:
        """Do `action` at `time`, and not what was set under this name before."""
        self._set[name] = (time, action)

    def after(self, seconds: float, name: str, action: Callable[[], None]) -> None:
        """Do `action` so many seconds from now."""
        self.set(name, self.now + seconds, action)

    def drop(self, name: str) -> bool:
        """Forget what was set under this name; say whether there was anything."""
        return self._set.pop(name, None) is not None

    def clear(self) -> None:
        """Forget all."""
        self._set.clear()

    def due(self) -> list[Callable[[], None]]:
        """Take what is due, the earliest first."""
        ready = sorted((time, name) for name, (time, _) in self._set.items() if time <= self.now)
        return [self._set.pop(name)[1] for _, name in ready]
