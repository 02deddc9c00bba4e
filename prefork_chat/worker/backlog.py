"""What the kernel did not take of a slow reader's bytes, in order, and who waits for it.

Exists only while there is something in it. In memory, to be written from; and, where nothing may
be lost, in a file as well (its `Spill`), for whoever adopts the client. Owner: the client's loop.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

from prefork_chat import log
from prefork_chat.worker.spill import Awaited, Content, Kept, Spill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLACK_BYTES: Final = 1024 * 1024
"""How much more than twice of what is pending a spill may hold. A reader who is always a little
behind never catches up: its spill would grow for ever."""


class _Chunk:
    """Bytes of one flush, the position behind them, and the receipts that their last releases."""

    __slots__ = ("data", "end", "receipts")

    def __init__(self, data: memoryview, end: int) -> None:
        self.data = data
        self.end = end
        self.receipts: list[Awaited] = []


class Backlog:
    """Bytes from position `start` to `end` of the client's stream.

    Bounded by its owner, which refuses messages (BUSY) above `client_pending_bytes` and stops
    reading the client whose own replies pile up. `is_torn` once part of the first chunk has been
    sent: its messages may have arrived. `spill` is None where a crash may cost what is here.
    """

    __slots__ = ("_chunks", "end", "is_torn", "pending_bytes", "spill")

    def __init__(self, spill: Spill | None = None) -> None:
        self._chunks: deque[_Chunk] = deque()
        self.pending_bytes = 0
        self.end = 0
        self.is_torn = False
        self.spill = spill

    @classmethod
    def restore(cls, kept: list[Kept], taken: int, answered: int) -> Backlog:
        """Make one of what a predecessor left, of which the kernel has all up to `taken`.

        What ends up to `answered` has been answered for, whatever became of it.
        """
        backlog = cls()
        for data, end, awaited in kept:
            if end <= taken:
                continue
            sent = max(0, len(data) - (end - taken))
            backlog._put(memoryview(data)[sent:], end)
            backlog.is_torn = backlog.is_torn or sent > 0
            if end > answered:
                backlog._chunks[-1].receipts += awaited
        return backlog

    @property
    def start(self) -> int:
        """The position up to which the kernel has taken the client's stream."""
        return self.end - self.pending_bytes

    def append(self, data: bytes, taken: int, end: int) -> None:
        """Queue `data`, which ends at position `end`; the kernel has its first `taken` bytes."""
        self._write(lambda spill: spill.append(data[taken:]))
        self._put(memoryview(data)[taken:], end)
        self.is_torn = self.is_torn or taken > 0

    def await_receipt(self, receipt: Awaited) -> None:
        """Hold `receipt` back until the newest chunk is sent."""
        self._write(lambda spill: spill.await_receipt(receipt))
        self._chunks[-1].receipts.append(receipt)

    @property
    def head(self) -> memoryview:
        """The bytes to send next."""
        return self._chunks[0].data

    def consume(self, sent: int) -> list[Awaited]:
        """Note that the kernel has `sent` bytes of `head`; return the receipts now due."""
        self.pending_bytes -= sent
        chunk = self._chunks[0]
        if sent < len(chunk.data):
            chunk.data = chunk.data[sent:]
            self.is_torn = True
            return []
        self._chunks.popleft()
        self.is_torn = False
        return chunk.receipts

    def abandon(self) -> tuple[list[Awaited], list[Awaited]]:
        """Empty the backlog of a dead client; return receipts of the torn chunk, of the rest."""
        torn: list[Awaited] = []
        if self.is_torn and self._chunks:
            torn = self._chunks.popleft().receipts
        untouched = [receipt for chunk in self._chunks for receipt in chunk.receipts]
        self._chunks.clear()
        self.pending_bytes = 0
        return torn, untouched

    def persist(self, path: Path) -> None:
        """Write all of it to a new spill at `path`, in the place of an older one.

        Only when the answers that it has released before are recorded. Raises OSError.
        """
        kept = [Kept(bytes(chunk.data), chunk.end, chunk.receipts) for chunk in self._chunks]
        old, self.spill = self.spill, Spill.rewrite(path, Content(self.start, self.start, kept))
        if old is not None:
            old.close()

    def protect(self, path: Path) -> bool:
        """Make sure that there is a spill for whoever goes on; False if the file system is full."""
        if self.spill is None:
            try:
                self.persist(path)
            except OSError as error:
                log.get_logger().warning(log.BACKLOG_UNPROTECTED, reason=error.strerror)
        return self.spill is not None

    def rewrite(self, path: Path) -> None:
        """Write the spill anew, without the past; where there is no room for that, later."""
        with contextlib.suppress(OSError):
            self.persist(path)

    @property
    def is_outgrown(self) -> bool:
        """True when most of the spill is about what the kernel has taken."""
        spill = self.spill
        return spill is not None and spill.size_bytes > SLACK_BYTES + 2 * self.pending_bytes

    def _write(self, write: Callable[[Spill], None]) -> None:
        """Keep the spill in step; without room for it the client is served without one."""
        if self.spill is None:
            return
        try:
            write(self.spill)
        except OSError as error:
            log.get_logger().warning(log.BACKLOG_UNPROTECTED, reason=error.strerror)
            self.spill.remove()
            self.spill = None

    def _put(self, data: memoryview, end: int) -> None:
        self._chunks.append(_Chunk(data, end))
        self.pending_bytes += len(data)
        self.end = end
