"""A daemon that makes nobody wait for long who has given a wrong password, or many new ones.

For tests that are about something else. Run as the command is.
"""

from __future__ import annotations

import sys
from typing import Final

from prefork_chat.cli.main import main
from prefork_chat.registry import penalties

FIRST_SECONDS: Final = 0.001


def be_lenient() -> None:
    """Let this process, and all that it forks, wait for milliseconds where others wait longer."""
    setattr(penalties, "FIRST_SECONDS", FIRST_SECONDS)  # noqa: B010 - mypy would not have it


if __name__ == "__main__":
    be_lenient()
    sys.exit(main())
