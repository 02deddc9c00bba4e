"""Where lines of other programs are taken from: a FIFO, a System V queue, a POSIX queue.

One class for each, for one thread. The objects are there already, and outlive us: what was not
taken is found by whoever comes after us. So little is taken at a time: one message of a queue, one
read of a FIFO; `take` never waits. A message of a queue may have several lines; a zero byte at its
end, as C programs leave it, is passed over.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.key import PROJECT
from prefork_chat.channels.posix import PosixQueue
from prefork_chat.channels.sysv import SysvQueue, system_v_key

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES: Final = 4096  # PIPE_BUF: no write up to that is torn by others
_MOST_UNENDED_BYTES: Final = 4096
_MOST_MESSAGE_BYTES: Final = 65_536  # more than kernel.msgmnb lets a whole queue hold by default


class Source(ABC):
    """Something that lines come from."""

    @abstractmethod
    def fileno(self) -> int | None:
        """Return a descriptor to poll for reading; None: there is none, so look now and then."""

    @abstractmethod
    def take(self) -> list[bytes] | None:
        """Take some lines, without their ends; None if nothing is there. Raises ChannelError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; it stays."""


class FifoSource(Source):
    """A FIFO that is open for reading and writing, so that it never ends when its writers go."""

    def __init__(self, path: Path) -> None:
        """Open it; raises OSError."""
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd: Final = os.open(path, flags)
        self._unended = b""
        self._is_skipping = False

    def fileno(self) -> int | None:
        """Return its descriptor."""
        return self._fd

    def take(self) -> list[bytes] | None:
        """Read once. A line that does not end is given up: what is returned of it is too long."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return None
        *lines, self._unended = (self._unended + data).split(b"\n")
        if self._is_skipping and lines:
            self._is_skipping = False
            del lines[0]
        if len(self._unended) >= _MOST_UNENDED_BYTES:
            if not self._is_skipping:
                lines.append(self._unended)
            self._unended = b""
            self._is_skipping = True
        return [line.rstrip(b"\r") for line in lines]

    def close(self) -> None:
        """Close it; others that have it open keep what is in it."""
        os.close(self._fd)


class SysvSource(Source):
    """The System V queue of key ftok(PATH, 'P'); types of messages mean nothing."""

    def __init__(self, path: Path) -> None:
        """Open it; raises ChannelError or OSError."""
        self._queue: Final = SysvQueue.open(system_v_key(path, PROJECT), _MOST_MESSAGE_BYTES)

    def fileno(self) -> int | None:
        """Return None."""
        return None

    def take(self) -> list[bytes] | None:
        """Take a message."""
        taken = self._queue.take(0)
        return None if taken is None else _lines(taken[0])

    def close(self) -> None:
        """Nothing is open."""


class PosixSource(Source):
    """A POSIX queue; priorities mean what mq_receive(3) says."""

    def __init__(self, name: str) -> None:
        """Open it; raises ChannelError."""
        self._queue: Final = PosixQueue.open(name)

    def fileno(self) -> int | None:
        """Return its descriptor."""
        return self._queue.fd

    def take(self) -> list[bytes] | None:
        """Take a message."""
        message = self._queue.take()
        return None if message is None else _lines(message)

    def close(self) -> None:
        """Close the descriptor."""
        self._queue.close()


def _lines(message: bytes) -> list[bytes]:
    return [line.rstrip(b"\r") for line in message.rstrip(b"\0\n").split(b"\n")]
