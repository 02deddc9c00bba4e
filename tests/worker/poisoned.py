"""A daemon with a bug: a line that says POISON makes its worker fail. Run as the command is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prefork_chat.chat.commands import execute
from prefork_chat.cli.main import main
from prefork_chat.worker import loop

if TYPE_CHECKING:
    from prefork_chat.chat.effects import Effect
    from prefork_chat.chat.session import Session


def execute_with_a_bug(session: Session, line: bytes) -> Effect:
    """Do what the real one does, but for one line."""
    if line == b"POISON":
        raise RuntimeError("poisoned")
    return execute(session, line)


if __name__ == "__main__":
    vars(loop)["execute"] = execute_with_a_bug
    sys.exit(main())
