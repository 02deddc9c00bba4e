"""What is at the other end of a client's TCP connection: /proc/net/tcp and /proc/PID/fd."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def serving_pid(client: socket.socket, pids: Iterable[int]) -> int | None:
    """Return which of the processes has accepted `client`, a connected TCP socket; None if none.

    Where several have the socket, as after a hand-over, the first of `pids` counts.
    """
    row = _accepted(client)
    if row is None:
        return None
    return next((pid for pid in pids if f"socket:[{row[9]}]" in _open_files(pid)), None)


def unread_bytes(client: socket.socket) -> int:
    """Return how much of what a connected TCP socket has sent was not read yet."""
    row = _accepted(client)
    assert row is not None, "there is no such connection"
    return int(row[4].partition(":")[2], 16)


def _accepted(client: socket.socket) -> list[str] | None:
    """Find the server's end: its local address is our remote one, and the other way round."""
    table = "tcp6" if client.family == socket.AF_INET6 else "tcp"
    text = Path(f"/proc/net/{table}").read_text(encoding="ascii")
    ends = [client.getpeername(), client.getsockname()]
    words = [_in_hexadecimal(client.family, *end[:2]) for end in ends]
    # Not line by line: there are thousands, of connections that have ended.
    before, found, behind = text.partition(" {} {} ".format(*words))
    if not found:
        return None
    return (before.rpartition("\n")[2] + found + behind.partition("\n")[0]).split()


def _in_hexadecimal(family: int, host: str, port: int) -> str:
    """Write an address as proc_pid_net(5) does: in words of four bytes, as the machine has them."""
    packed = socket.inet_pton(family, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def _open_files(pid: int) -> set[str]:
    directory = f"/proc/{pid}/fd"
    files = set()
    try:
        for fd in os.listdir(directory):
            try:
                files.add(os.readlink(f"{directory}/{fd}"))
            except FileNotFoundError:
                pass  # closed meanwhile
    except (FileNotFoundError, ProcessLookupError):
        pass  # the process has ended
    return files
