"""A daemon whose loops, when they stop, wait for an hour that something comes.

Run as the command is.
"""

from __future__ import annotations

import sys

from prefork_chat.cli.main import main
from prefork_chat.worker import loop

if __name__ == "__main__":
    loop.QUIET_SECONDS = 3600.0
    sys.exit(main())
