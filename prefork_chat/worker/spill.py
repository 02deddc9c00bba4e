"""A slow reader's backlog as a file, for whoever adopts the client.

A log in the runtime directory, named after the session: a header, then frames that are only ever
appended, each with one write. Removed when the client has caught up or is gone, written anew when
it holds more of the past than of what is to come. Its frames hold the client's stream from `first`
on without a gap, so a successor that knows how much the kernel has taken goes on at the byte; a
frame that a kill cut off is known by its size, and then not counted. Owner: the loop of the client,
in its turn.

    header   <q q q>     first: position in the stream of the first byte kept
                         answered: what ends up to there has been answered for
                         taken: what the kernel has taken (Unix sockets: it keeps no count)
    frame    <I I> data  kind, size; kind 0: bytes of the stream, behind those before;
                         kind 1: MessagePack (origin, tag, destination, message or ""): an answer
                         that is due when the kernel has all bytes before it
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from prefork_chat.protocol.envelope import Origin

if TYPE_CHECKING:
    from pathlib import Path

_HEADER: Final = struct.Struct("<qqq")
_ANSWERED_OFFSET: Final = 8
_TAKEN_OFFSET: Final = 16
_POSITION: Final = struct.Struct("<q")
_FRAME: Final = struct.Struct("<II")
_BYTES: Final = 0
_AWAITED: Final = 1

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes, bytes]).decode


class Awaited(NamedTuple):
    """A receipt that must wait until the kernel has the message's last byte."""

    origin: Origin
    tag: bytes
    destination: bytes
    message: bytes = b""
    """What is to be stored before the answer, if it is."""


class Kept(NamedTuple):
    """Bytes of one flush, the position behind them, and the answers that their last byte frees."""

    data: bytes
    end: int
    awaited: list[Awaited]


class Content(NamedTuple):
    """What a spill holds: `kept` in order, and how far its header says that things have got.

    `size` is where the last whole frame ends in the file, `newest` the last whole one of bytes.
    """

    answered: int
    taken: int
    kept: list[Kept]
    size: int = 0
    newest: int = 0


class Spill:
    """The file of one client. Raises OSError when the file system is full or gone."""

    __slots__ = ("_fd", "_path", "size_bytes")

    def __init__(self, path: Path, fd: int, size_bytes: int = 0) -> None:
        self._path = path
        self._fd = fd
        self.size_bytes = size_bytes

    @classmethod
    def create(cls, path: Path, first: int) -> Spill:
        """Begin a new log at position `first` of the stream, in the place of any older one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        spill = cls(path, os.open(path, flags, 0o600))
        try:
            spill._write(_HEADER.pack(first, first, first))
        except OSError:
            spill.remove()
            raise
        return spill

    @classmethod
    def rewrite(cls, path: Path, content: Content) -> Spill:
        """Put a log that holds `content` in the place of the old one, all at once."""
        aside = path.with_name(f"{path.name}.new")
        first = content.kept[0].end - len(content.kept[0].data)
        spill = cls.create(aside, first)
        try:
            for kept in content.kept:
                spill.append(kept.data)
                for awaited in kept.awaited:
                    spill.await_receipt(awaited)
            spill.note_answered(content.answered)
            spill.note_taken(content.taken)
            spill.rename(path)
        except OSError:
            spill.remove()
            raise
        return spill

    @classmethod
    def reopen(cls, path: Path, content: Content, *, forget_newest_awaited: bool) -> Spill:
        """Go on with a log that was loaded, behind its last whole frame."""
        size = content.newest if forget_newest_awaited else content.size
        spill = cls(path, os.open(path, os.O_WRONLY | os.O_CLOEXEC), size)
        os.ftruncate(spill._fd, size)
        os.lseek(spill._fd, 0, os.SEEK_END)
        return spill

    def rename(self, path: Path) -> None:
        """Put the file in the place of the one at `path`, if there is one."""
        self._path.rename(path)
        self._path = path

    def append(self, data: bytes) -> None:
        """Add bytes of the stream."""
        self._write(_FRAME.pack(_BYTES, len(data)) + data)

    def await_receipt(self, awaited: Awaited) -> None:
        """Add an answer that is due when all bytes before it are taken."""
        origin, *rest = awaited
        data = _encode((origin.header, *rest))
        self._write(_FRAME.pack(_AWAITED, len(data)) + data)

    def note_answered(self, position: int) -> None:
        """Note that all that ends up to `position` has been answered for."""
        self._set(_ANSWERED_OFFSET, position)

    def note_taken(self, position: int) -> None:
        """Note that the kernel has taken all up to `position`."""
        self._set(_TAKEN_OFFSET, position)

    def close(self) -> None:
        """Leave the file to another loop."""
        os.close(self._fd)

    def remove(self) -> None:
        """Close and remove the file."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def _write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if os.write(self._fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _set(self, offset: int, position: int) -> None:
        os.pwrite(self._fd, _POSITION.pack(position), offset)


def load(path: Path) -> Content | None:
    """Read what a predecessor left; None if there is no such file, or not even a header in it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _HEADER.size:
        return None
    first, answered, taken = _HEADER.unpack_from(data)
    kept: list[Kept] = []
    end = first
    place = newest = _HEADER.size
    while place + _FRAME.size <= len(data):
        kind, size = _FRAME.unpack_from(data, place)
        frame_end = place + _FRAME.size + size
        if frame_end > len(data):
            break
        body = data[place + _FRAME.size : frame_end]
        place = frame_end
        if kind == _BYTES:
            end += size
            kept.append(Kept(body, end, []))
            newest = place
        elif kept:
            header, *rest = _decode(body)
            kept[-1].awaited.append(Awaited(Origin.parse(header[:-1]), *rest))
    return Content(answered, taken, kept, place, newest)
