"""What the mechanisms are called, for those who need no more: the parser of every command."""

from __future__ import annotations

from typing import Final

PIPE: Final = "pipe"
FIFO: Final = "fifo"
POSIX_QUEUE: Final = "posix-queue"
SYSV_QUEUE: Final = "sysv-queue"
SHARED_MEMORY: Final = "shared-memory"
SOCKET: Final = "socket"
ALL: Final = (PIPE, FIFO, POSIX_QUEUE, SYSV_QUEUE, SHARED_MEMORY, SOCKET)
