"""What `ipc serve` and `ipc read` say of themselves: a line on stderr, redrawn on a terminal.

Not on a terminal, only the last line is said: how much it was, and how fast.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Self

_REDRAW_SECONDS: Final = 0.2
_CLEAR: Final = "\r\x1b[K"
_MEGABYTE: Final = 1_000_000


class Progress:
    """Counts bytes. Owner: the command's only thread."""

    def __init__(self, verb: str, size_bytes: int | None, *, quiet: bool) -> None:
        self._verb = verb
        self._size_bytes = size_bytes
        self._is_quiet = quiet
        self._is_drawing = False
        self._has_drawn = False
        self._bytes = 0
        self._started = self._drawn = 0.0

    def say(self, text: str) -> None:
        """Say something on a terminal."""
        if not self._is_quiet and sys.stderr.isatty():
            print(text, file=sys.stderr, flush=True)

    def start(self, *, shows_rate: bool) -> None:
        """Start the clock. `shows_rate`: no other process draws on this terminal."""
        self._is_drawing = shows_rate and not self._is_quiet and sys.stderr.isatty()
        self._started = self._drawn = time.monotonic()

    def add(self, count: int) -> None:
        """Count, and redraw if it is time."""
        self._bytes += count
        if self._is_drawing and time.monotonic() - self._drawn >= _REDRAW_SECONDS:
            self._drawn = time.monotonic()
            self._has_drawn = True
            print(f"{_CLEAR}{self._line()}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Say the sum."""
        if not self._is_quiet:
            clear = _CLEAR if self._has_drawn else ""
            self._has_drawn = False
            print(f"{clear}{self._line()}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_drawn:
            print(
                file=sys.stderr
            )  # it was cut short: what is said next starts on a line of its own

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._started, 1e-6)
        rate = f"{self._bytes / seconds / _MEGABYTE:,.0f} MB/s"
        if self._size_bytes and self._bytes < self._size_bytes:
            share = f" of {self._size_bytes / _MEGABYTE:,.0f} MB"
            return f"{self._verb} {self._bytes / _MEGABYTE:,.0f}{share}, {rate}"
        return f"{self._verb} {self._bytes:,} bytes, {rate}"
