"""How a benchmark says what it is doing: on a terminal in one line, written over."""

from __future__ import annotations

import sys


def announce(text: str) -> None:
    """Say on stderr what begins now, where no terminal shows more than that."""
    if not sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Replace the line on stderr by `text`; nothing if stderr is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
