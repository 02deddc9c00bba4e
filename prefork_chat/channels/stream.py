"""Messages on a byte stream: how pipe, FIFO and Unix socket keep boundaries and say the end.

A message is `<I` its length in bytes, then its bytes; the length 0xFFFFFFFF is the end of the
stream. A stream that closes without it was cut. The descriptors are non-blocking, and belong to
the sender or receiver from here on.
"""

from __future__ import annotations

import os
import select
import struct
from itertools import islice
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Mark, Receiver, Sender
from prefork_chat.channels.errors import ChannelError, PeerGone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.channels.ledger import Entry

BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel for a pipe or socket (pipe(7): what everybody may have); less will do."""

_HEADER: Final = struct.Struct("<I")
_END: Final = 0xFFFFFFFF
# One longest message, so that a row of them is read without putting pieces together.
_READ_BYTES: Final = _HEADER.size + MAX_MESSAGE_BYTES
_GONE: Final = select.POLLERR | select.POLLHUP


class StreamSender(Sender):
    """Writes to a descriptor that it is given, now or when the client comes."""

    def __init__(self, fd: int = -1, entry: Entry | None = None) -> None:
        super().__init__()
        self._fd = fd
        self._entry = entry

    def fileno(self) -> int | None:
        """Return the writable end, None before there is one."""
        return self._fd if self._fd >= 0 else None

    def is_peer_alive(self) -> bool:
        """Ask the kernel whether the other end is open."""
        if self._fd < 0:
            return True
        return not _poll(self._fd, 0, 0) & _GONE

    def close(self) -> None:
        """Close the stream and remove its name."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._entry is not None:
            self._remove_name()
            self._entry.remove()
            self._entry = None

    def _remove_name(self) -> None:
        """Remove what the client found it by."""

    def _parts(self, message: bytes) -> Sequence[bytes]:
        return _HEADER.pack(len(message)), message

    def _end(self) -> Sequence[bytes]:
        return (_HEADER.pack(_END),)

    def _has_client(self, seconds: float) -> bool:  # noqa: ARG002 - for those that wait
        """A stream that was handed over has both its ends."""
        return True

    def _put(self, seconds: float) -> int:
        if self._fd < 0 and not self._has_client(seconds):
            return 0
        try:
            try:
                return os.writev(self._fd, list(islice(self._rest, 2)))
            except BlockingIOError:
                if not _poll(self._fd, select.POLLOUT, seconds) & select.POLLOUT:
                    return 0
                return os.writev(self._fd, list(islice(self._rest, 2)))
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError) as error:
            raise PeerGone("the reader has gone") from error


class StreamReceiver(Receiver):
    """Reads from a descriptor; asks `entry` for the server when the kernel cannot tell yet."""

    def __init__(self, fd: int, entry: Entry | None = None) -> None:
        super().__init__()
        self._fd = fd
        self._entry = entry
        self._buffer = b""
        self._at = 0
        self._want_bytes = _READ_BYTES

    def fileno(self) -> int | None:
        """Return the readable end."""
        return self._fd

    def is_peer_alive(self) -> bool:
        """Ask the kernel, and for a FIFO that is not open at the other end yet, the ledger."""
        if _poll(self._fd, 0, 0) & _GONE:
            return False
        return self._entry is None or self._entry.is_server_alive()

    def close(self) -> None:
        """Close the stream."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._entry is not None:
            self._entry.close()

    def _take(self, seconds: float) -> bytes | Mark:
        message = self._next()
        while message is Mark.NOTHING and self._read(seconds):
            message = self._next()
        return message

    def _next(self) -> bytes | Mark:
        """Return what the buffer has whole."""
        start = self._at + _HEADER.size
        self._want_bytes = _READ_BYTES
        if len(self._buffer) < start:
            return Mark.NOTHING
        (length,) = _HEADER.unpack_from(self._buffer, self._at)
        if length == _END:
            return Mark.END
        if length > MAX_MESSAGE_BYTES:
            raise ChannelError("this is not a channel's stream: it has no boundaries")
        if len(self._buffer) < start + length:
            if length > _READ_BYTES // 2:
                self._want_bytes = start + length - len(self._buffer)
            return Mark.NOTHING
        self._at = start + length
        return self._buffer[start : self._at]

    def _read(self, seconds: float) -> bool:
        """Read more, waiting up to `seconds`; False if there is nothing. Raises PeerGone."""
        try:
            data = os.read(self._fd, self._want_bytes)
        except BlockingIOError:
            data = b""
        except ConnectionResetError as error:
            raise PeerGone("the server has gone before the end of the stream") from error
        if not data:
            # Nothing can mean: nothing yet, nobody has opened a FIFO for writing yet, or closed.
            events = _poll(self._fd, select.POLLIN, seconds)
            if not events:
                return False
            try:
                data = os.read(self._fd, self._want_bytes)
            except (BlockingIOError, ConnectionResetError):
                return False
            if not data:
                raise PeerGone("the server has gone before the end of the stream")
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0
        return True


def _poll(fd: int, events: int, seconds: float) -> int:
    """Return the events of one descriptor, waiting up to `seconds`."""
    poll = select.poll()
    poll.register(fd, events)
    ready = poll.poll(seconds * 1000)
    return ready[0][1] if ready else 0
