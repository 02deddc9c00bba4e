"""A daemon on a kernel before Linux 6.9, whose TCP sockets do not remember peeks.

Run as the command is. Lenient (see there), because questions are tested with it.
"""

from __future__ import annotations

import socket
import sys

from prefork_chat.cli.main import main
from prefork_chat.worker import counters
from tests.daemon.lenient import be_lenient

_follow_peeks = counters.follow_peeks


def follow_peeks(client: socket.SocketType) -> None:
    """Do what the real one does, but for TCP."""
    if client.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) != socket.AF_UNIX:
        raise OSError("as an older kernel says")
    _follow_peeks(client)


if __name__ == "__main__":
    be_lenient()
    counters.follow_peeks = follow_peeks
    sys.exit(main())
