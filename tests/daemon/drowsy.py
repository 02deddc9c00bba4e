"""A daemon whose workers do nothing of themselves for a long time: somebody has to wake them.

Run as the command is.
"""

from __future__ import annotations

import sys

from prefork_chat.cli.main import main
from prefork_chat.worker import loop, worker

HOUR_SECONDS = 3600.0

if __name__ == "__main__":
    loop.LONGEST_BEAT_SECONDS = HOUR_SECONDS
    worker.WATCH_SECONDS = HOUR_SECONDS
    sys.exit(main())
