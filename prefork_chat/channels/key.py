"""The key of a channel: a file's path, by which unrelated programs name the same channel.

ftok(3) makes of it the number of System V objects, and all other names are made of that number; so
every mechanism is named alike, and a C program finds the System V ones. Two paths can have the same
key (it has 16 bits of the inode): then the second server is told who has it.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelError, KeyMissing, NotPermitted
from prefork_chat.channels.sysv import system_v_key

if TYPE_CHECKING:
    from pathlib import Path

PROJECT: Final = ord("P")
"""Of the queue and the shared memory; their semaphores have others: see `shared_memory`."""


@dataclass(frozen=True, slots=True)
class Key:
    """`path` as given, absolute; `number` is ftok(path, 'P'), 1 to 2^31 - 1."""

    path: Path
    number: int

    @classmethod
    def of(cls, path: Path) -> Key:
        """Derive the key of an existing file. Raises KeyMissing, NotPermitted, ChannelError."""
        try:
            return cls(path.absolute(), system_v_key(path, PROJECT))
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                raise KeyMissing(f"key file {path} does not exist: make it with touch") from error
            if error.errno == errno.EACCES:
                raise NotPermitted(f"key file {path}: {os.strerror(errno.EACCES)}") from error
            raise ChannelError(f"key file {path}: {error.strerror}") from error

    @property
    def name(self) -> str:
        """The number as eight hexadecimal digits, as `ipcs` shows it."""
        return f"{self.number:08x}"
