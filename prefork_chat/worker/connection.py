"""One client as its loop holds it: socket, codec, session, and the bytes on their way to it.

A connection belongs to one loop for its whole life and is touched by that loop's thread only. It
decides nothing: the loop drives it. Memory counts here: ten thousand idle ones must stay small, so
everything that an idle client does not need is None, an empty shared object, or not there.
"""

from __future__ import annotations

from collections import deque
from enum import Flag
from typing import TYPE_CHECKING, NamedTuple

from prefork_chat.chat.session import Session
from prefork_chat.protocol.decoder import Decoder

if TYPE_CHECKING:
    from prefork_chat.protocol.envelope import Origin


class Pause(Flag):
    """Why a connection is not being read. It is read again when the last reason has gone.

    Connections keep the sum of the values: plain integers, which the hot path can test quickly.
    """

    UNREAD = 1  # its own replies pile up: it does not read them
    CONGESTED = 2  # the loop that it writes to is behind
    RATE = 4  # it has used up its lines per second
    DEPARTING = 8  # it said LEAV, or sent end of file, or is being closed
    STOPPING = 16  # the worker goes down


DEPARTING = Pause.DEPARTING.value


class Awaited(NamedTuple):
    """A receipt that must wait until the kernel has the message's last byte."""

    origin: Origin
    tag: bytes
    destination: bytes


class _Chunk:
    """Bytes of one flush and the receipts that their last byte releases."""

    __slots__ = ("data", "receipts")

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.receipts: list[Awaited] = []


class Backlog:
    """What the kernel did not take of a slow reader's bytes, in order, and who waits for it.

    Exists only while there is something in it. Bounded by its owner, which refuses messages (BUSY)
    above `client_pending_bytes` and stops reading the client whose own replies pile up.
    """

    __slots__ = ("_chunks", "is_torn", "pending_bytes")

    def __init__(self) -> None:
        self._chunks: deque[_Chunk] = deque()
        self.pending_bytes = 0
        self.is_torn = False
        """True once part of the first chunk has been sent: its messages may have arrived."""

    def append(self, data: bytes, taken: int = 0) -> None:
        """Queue `data`, of which the kernel has taken the first `taken` bytes already."""
        self._chunks.append(_Chunk(memoryview(data)[taken:]))
        self.pending_bytes += len(data) - taken
        self.is_torn = self.is_torn or taken > 0

    def await_receipt(self, receipt: Awaited) -> None:
        """Hold `receipt` back until the newest chunk is sent."""
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


class Connection:
    """A client socket, its codec and its session. Owner: the loop that accepted it, for life.

    `fd` is -1 once closed. `out` are whole lines of this turn for the client, without ends. `slot`
    is -1 until the client has joined, and after it has left; `origin` is made at its first CHAT, so
    that the many who only listen need none. `outstanding` counts its CHATs without an outcome yet.
    """

    __slots__ = (
        "backlog",
        "credit",
        "credited_at",
        "decoder",
        "departs_at",
        "fd",
        "generation",
        "has_said_goodbye",
        "last_words",
        "origin",
        "out",
        "outstanding",
        "pauses",
        "session",
        "slot",
    )

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.decoder = Decoder()
        self.session = Session()
        self.slot = -1
        self.generation = 0
        self.origin: Origin | None = None
        self.out: list[bytes] = []
        self.backlog: Backlog | None = None
        self.outstanding = 0
        self.pauses = 0
        self.credit = 0.0
        self.credited_at = 0.0
        self.last_words: tuple[bytes, ...] = ()
        self.departs_at = 0.0
        self.has_said_goodbye = False

    @property
    def is_departing(self) -> bool:
        """True from LEAV, end of file or a fatal error until the socket is closed."""
        return bool(self.pauses & DEPARTING)

    def forget_outdated_origin(self) -> None:
        """Let the origin be made anew if what it tells others about answers has changed."""
        if self.origin is not None and self.origin.is_quiet != self.session.quiet:
            self.origin = None
