"""How a benchmark says on a terminal what it is doing: one line, written over."""

from __future__ import annotations

import sys


def show(text: str) -> None:
    """Replace the line on stderr by `text`; nothing if stderr is no terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
