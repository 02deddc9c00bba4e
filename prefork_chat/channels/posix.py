"""The only door of `channels` to posix_ipc: POSIX message queues, which have a descriptor to poll.

A queue is made with mode 0600 and must not exist before; who makes one may permit more to others.
Raises ObjectTaken, NoServer, NotPermitted, ChannelError.
"""

from __future__ import annotations

import os
from typing import Final

import posix_ipc

from prefork_chat.channels.errors import NotPermitted
from prefork_chat.channels.refusals import making, opening

_MODE: Final = 0o600


class PosixQueue:
    """A POSIX message queue, never blocking: poll `fd`."""

    def __init__(self, queue: posix_ipc.MessageQueue) -> None:
        self._queue = queue
        self._queue.block = False
        self.fd = int(queue.fileno())
        self.part_bytes = int(queue.max_message_size)

    @classmethod
    def create(cls, name: str, count: int, part_bytes: int, lower_bytes: int) -> PosixQueue:
        """Make a queue of `count` parts of `part_bytes`, or of `lower_bytes` if not allowed."""
        what = f"POSIX queue {name}"
        make = posix_ipc.MessageQueue
        with making(what):
            try:
                made = make(name, posix_ipc.O_CREX, _MODE, count, part_bytes)
            except (ValueError, OSError, posix_ipc.PermissionsError):
                made = make(name, posix_ipc.O_CREX, _MODE, count, lower_bytes)
        return cls(made)

    @classmethod
    def open(cls, name: str) -> PosixQueue:
        """Open an existing one."""
        with opening(f"POSIX queue {name}"):
            return cls(posix_ipc.MessageQueue(name))

    def put(self, part: memoryview) -> bool:
        """Put a part in; False if the queue is full."""
        try:
            self._queue.send(part)
        except posix_ipc.BusyError:
            return False
        return True

    def take(self) -> bytes | None:
        """Take a part out; None if the queue is empty."""
        try:
            return bytes(self._queue.receive()[0])
        except posix_ipc.BusyError:
            return None

    @property
    def count(self) -> int:
        """How many parts are in it."""
        return int(self._queue.current_messages)

    def permit(self, mode: int, uid: int, gid: int) -> None:
        """Give it this mode and owner; -1: as it is. Raises NotPermitted."""
        try:
            os.fchmod(self.fd, mode)
            os.fchown(self.fd, uid, gid)
        except OSError as error:
            raise NotPermitted(f"POSIX queue: {error.strerror}") from error

    def close(self) -> None:
        """Close the descriptor; the queue stays."""
        self._queue.close()


def remove_posix_queue(name: str) -> bool:
    """Remove the name; True if there was one."""
    try:
        posix_ipc.unlink_message_queue(name)
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as error:
        raise NotPermitted(f"POSIX queue {name} belongs to another user") from error
    return True
