"""The POSIX message queue (mq_overview(7)), named `/prefork-chat-UID-KEY`, KEY in hexadecimal.

Each of its messages is a part (`parts`), `<B` its kind in front. Where the system lets us, a part
holds the longest message; else (`fs.mqueue.msgsize_max`) it is cut. The queue outlives a reader
that dies, and tells nobody: the ledger does.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.channels import parts
from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Mark, Receiver, Sender
from prefork_chat.channels.errors import NoServer
from prefork_chat.channels.posix import PosixQueue, remove_posix_queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry

# mq_overview(7): what any user may have; half a megabyte of RLIMIT_MSGQUEUE's 819,200 bytes.
_COUNT: Final = 10
_DEFAULT_PART_BYTES: Final = 8192
_LOOK_SECONDS: Final = 0.002  # nothing can be polled for "empty", or for a reader


class PosixQueueSender(Sender):
    """Owns the queue."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        self._name = _name_of(entry.number)
        part_bytes = min(_limit("msgsize_max", _DEFAULT_PART_BYTES), MAX_MESSAGE_BYTES + 1)
        self._queue = PosixQueue.create(
            self._name,
            min(_limit("msg_max", _COUNT), _COUNT),
            MAX_MESSAGE_BYTES + 1,
            part_bytes,
        )
        self._poll = select.poll()
        self._poll.register(self._queue.fd, select.POLLOUT)
        self._is_open = True

    def fileno(self) -> int | None:
        """Return the queue's descriptor, for POLLOUT."""
        return self._queue.fd

    def is_peer_alive(self) -> bool:
        """Ask the ledger."""
        return not self._entry.has_reader_gone()

    def close(self) -> None:
        """Remove the queue."""
        if self._is_open:
            self._is_open = False
            self._queue.close()
            remove_posix_queue(self._name)
            self._entry.remove()

    def _parts(self, message: bytes) -> Sequence[bytes]:
        return parts.cut(message, self._queue.part_bytes - 1)

    def _end(self) -> Sequence[bytes]:
        return (b"%c" % parts.END,)

    def _put(self, seconds: float) -> int:
        part = self._rest[0]
        if self._queue.put(part):
            return len(part)
        if self._poll.poll(seconds * 1000) and self._queue.put(part):
            return len(part)
        return 0

    def _has_client(self, seconds: float) -> bool:
        if self._entry.reader_pid:
            return True
        time.sleep(min(seconds, _LOOK_SECONDS))
        return False

    def _is_drained(self, seconds: float) -> bool:
        if self._queue.count == 0:
            return True
        time.sleep(min(seconds, _LOOK_SECONDS))
        return False


class PosixQueueReceiver(Receiver):
    """Reads somebody's queue."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry
        self._queue = PosixQueue.open(_name_of(entry.number))
        self._poll = select.poll()
        self._poll.register(self._queue.fd, select.POLLIN)
        self._joiner = parts.Joiner()
        self._is_open = True

    def fileno(self) -> int | None:
        """Return the queue's descriptor, for POLLIN."""
        return self._queue.fd

    def is_peer_alive(self) -> bool:
        """Ask the ledger."""
        return self._entry.is_server_alive()

    def close(self) -> None:
        """Let go of the queue."""
        if self._is_open:
            self._is_open = False
            self._queue.close()
            self._entry.close()

    def _take(self, seconds: float) -> bytes | Mark:
        message: bytes | Mark = Mark.NOTHING
        while message is Mark.NOTHING:
            part = self._queue.take()
            if part is None and self._poll.poll(seconds * 1000):
                part = self._queue.take()
            if part is None:
                return Mark.NOTHING
            message = self._joiner.add(part[0], part[1:])
        return message


def serve(_: Key, entry: Entry) -> PosixQueueSender:
    """Make the queue."""
    return PosixQueueSender(entry)


def connect(_: Key, entry: Entry) -> PosixQueueReceiver:
    """Open the queue."""
    try:
        return PosixQueueReceiver(entry)
    except NoServer as error:
        raise NoServer("its server is not ready") from error


def remove_objects(entry: Entry) -> None:
    """Remove the queue of a dead server."""
    remove_posix_queue(_name_of(entry.number))


def _name_of(number: int) -> str:
    return f"/prefork-chat-{os.geteuid()}-{number:08x}"


def _limit(name: str, default: int) -> int:
    """Return what the system allows an ordinary user."""
    try:
        return int(Path(f"/proc/sys/fs/mqueue/{name}").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return default
