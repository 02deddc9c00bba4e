"""`python -m prefork_chat`: the same as the command `prefork-chat`."""

from __future__ import annotations

import sys

from prefork_chat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
