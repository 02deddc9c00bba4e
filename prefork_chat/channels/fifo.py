"""The FIFO, or named pipe (fifo(7)): a file beside the ledger's, and the stream in it (`stream`).

The server opens it when a reader is there (before that the kernel says ENXIO), the client at once.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelError, NoServer, PeerGone
from prefork_chat.channels.pipe import enlarge
from prefork_chat.channels.stream import StreamReceiver, StreamSender

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry

# Nothing can be polled for a reader that comes: how often to try, while there is nothing to do.
_RETRY_SECONDS: Final = 0.01


class FifoSender(StreamSender):
    """Opens the FIFO when the client has."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(-1, entry)
        self._claim: Final = entry
        self._path: Final = _path_of(entry)
        try:
            os.mkfifo(self._path, 0o600)
        except OSError as error:
            raise ChannelError(f"{self._path}: {error.strerror}") from error

    def is_peer_alive(self) -> bool:
        """Ask the kernel, or the ledger for a client that came and went before we opened."""
        if self._fd < 0:
            return not self._claim.has_reader_gone()
        return super().is_peer_alive()

    def _has_client(self, seconds: float) -> bool:
        if self._fd >= 0:
            return True
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise ChannelError(f"{self._path}: {error.strerror}") from error
            if self._claim.has_reader_gone():
                raise PeerGone("the reader has gone") from error
            time.sleep(min(seconds, _RETRY_SECONDS))
            return False
        enlarge(self._fd)
        return True

    def _remove_name(self) -> None:
        self._path.unlink(missing_ok=True)


def serve(_: Key, entry: Entry) -> FifoSender:
    """Make the FIFO."""
    return FifoSender(entry)


def connect(_: Key, entry: Entry) -> StreamReceiver:
    """Open the FIFO for reading."""
    path = _path_of(entry)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NoServer("its server is not ready") from error
    except OSError as error:
        raise ChannelError(f"{path}: {error.strerror}") from error
    return StreamReceiver(fd, entry)


def remove_objects(entry: Entry) -> None:
    """Remove the FIFO of a dead server."""
    _path_of(entry).unlink(missing_ok=True)


def _path_of(entry: Entry) -> Path:
    return entry.path.with_suffix(".fifo")
