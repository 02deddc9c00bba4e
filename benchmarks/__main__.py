"""`python -m benchmarks`: the first word says which benchmark; anything else is for `measure`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from benchmarks import adoption, compare, local, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "adoption": adoption.main,
    "compare": compare.main,
    "local": local.main,
}


def main(words: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit code."""
    command = COMMANDS.get(words[0]) if words else None
    return measure.main(words) if command is None else command(words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
