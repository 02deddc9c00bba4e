"""Whose socket file that is: what must be asked before a Unix socket's path is unlinked.

Called by the supervisor's only thread, at the start (`ledger`, `listeners`) and at the end. A path
says nothing: another daemon may have put its own socket there since. The file's identity does, and
so does a connection: a socket where nobody listens is a dead daemon's, whoever made it.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import NamedTuple


class SocketIdentity(NamedTuple):
    """What tells a socket file from those that had its path, or its inode, before and after."""

    device: int
    inode: int
    change_ns: int


def read_identity(path: str) -> SocketIdentity | None:
    """Return the identity of the socket at `path`; None if there is none, or no socket."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISSOCK(status.st_mode):
        return None
    return SocketIdentity(status.st_dev, status.st_ino, status.st_ctime_ns)


def is_listened_to(path: str) -> bool:
    """Say whether somebody listens at the socket `path`, by connecting to it without waiting.

    If it cannot be told (no permission, a datagram socket) the answer is yes: it is in use.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # EAGAIN: its backlog is full; EPROTOTYPE; EACCES
    return True


def unlink_own(path: str, own: SocketIdentity) -> bool:
    """Unlink `path` if it is still the socket `own`, which this process has open; say whether.

    An open socket keeps its inode from being used again, so device and inode suffice here: the
    owner may have changed the file's group since.
    """
    there = read_identity(path)
    if there is None or there[:2] != own[:2]:
        return False
    try:
        os.unlink(path)
    except OSError:
        return False  # gone since, or its directory is not ours any more
    return True
