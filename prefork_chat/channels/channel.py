"""What a channel is: one sender, one receiver, messages with boundaries, an end of stream.

Decides what all six mechanisms have in common; each adds how it puts and takes bytes. The server
makes the channel and sends; the client opens it and receives. Two channels make a conversation.
A channel belongs to one thread.

Promises, which tests/channels checks for every mechanism:
- A message is 0 to `MAX_MESSAGE_BYTES` bytes, and arrives whole and in order, or not at all.
- Every call that may wait takes `timeout` in seconds: None waits for ever, 0 never. It is over with
  `ChannelTimeout`, and then the call's message was not sent, or none was taken. (A message whose
  first part has left counts as sent: the rest waits here and goes before the next one. So at most
  one message is kept in this process.)
- The end of the stream is said, by `finish`, and is told from death: whoever waits for a process
  that was killed gets `PeerGone` within about `TICK_SECONDS`.
- Signals interrupt nothing; a handler that raises is heard.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelTimeout, MessageTooLong, PeerGone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

MAX_MESSAGE_BYTES: Final = 65536
"""As a datagram between loops; the queues, whose limit is lower, take a message in parts."""

TICK_SECONDS: Final = 0.1
"""How often a waiting call asks whether its peer lives, where the kernel does not say it."""


class Mark(Enum):
    """What can come instead of a message."""

    END = "end"
    """The end of the stream."""
    NOTHING = "nothing"
    """Nothing has come yet."""


class Deadline:
    """The end of a call's time on the monotonic clock; None as timeout: never."""

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        self._at = None if timeout is None else time.monotonic() + timeout

    def slice(self) -> float:
        """Return for how long to wait before looking around: 0 to `TICK_SECONDS`."""
        if self._at is None:
            return TICK_SECONDS
        return min(max(self._at - time.monotonic(), 0.0), TICK_SECONDS)

    def is_past(self) -> bool:
        """Say whether the time is over."""
        return self._at is not None and time.monotonic() >= self._at


class Channel(ABC):
    """One end of a channel. Owner: the thread that opened it."""

    def fileno(self) -> int | None:
        """Return a descriptor to poll, where the mechanism has one (System V has none)."""
        return None

    @abstractmethod
    def is_peer_alive(self) -> bool:
        """Say that the other side has not died or closed; True while it has not come yet."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the channel; the server removes it from the system. Twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Sender(Channel):
    """The server's end."""

    def __init__(self) -> None:
        self._rest: deque[memoryview] = deque()
        """What is left of the message under way, in the pieces that the mechanism puts."""
        self._has_said_end = False

    def wait_for_client(self, timeout: float | None = None) -> None:
        """Return when a client has opened the channel. Raises ChannelTimeout."""
        deadline = Deadline(timeout)
        while not self._has_client(deadline.slice()):
            if deadline.is_past():
                raise ChannelTimeout("no reader came in time")

    def send(self, message: bytes, timeout: float | None = None) -> None:
        """Send one message. Raises MessageTooLong, ChannelTimeout, PeerGone."""
        if len(message) > MAX_MESSAGE_BYTES:
            raise MessageTooLong(
                f"a message of {len(message):,} bytes is too long: {MAX_MESSAGE_BYTES:,} at most"
            )
        self._send_parts(self._parts(message), Deadline(timeout))

    def finish(self, timeout: float | None = None) -> None:
        """Say the end of the stream; return when close() loses nothing that was sent.

        Raises ChannelTimeout, after which it can be called again, and PeerGone.
        """
        deadline = Deadline(timeout)
        if not self._has_said_end:
            self._send_parts(self._end(), deadline)
            self._has_said_end = True
        if not self._push(deadline):
            raise ChannelTimeout("the reader does not read")
        while not self._is_drained(deadline.slice()):
            # Looked at once more: it may have taken the end, and gone, since.
            if not self.is_peer_alive() and not self._is_drained(0):
                raise PeerGone("the reader has gone before the end")
            if deadline.is_past():
                raise ChannelTimeout("the reader does not read")

    def _send_parts(self, parts: Sequence[bytes], deadline: Deadline) -> None:
        if not self._push(deadline):
            raise ChannelTimeout("the reader does not read")
        self._rest.extend(memoryview(part) for part in parts if part)
        untouched = sum(map(len, self._rest))
        if not self._push(deadline) and sum(map(len, self._rest)) == untouched:
            self._rest.clear()
            raise ChannelTimeout("the reader does not read")

    def _push(self, deadline: Deadline) -> bool:
        """Put what is left; False if the time is over before all is put."""
        while self._rest:
            taken_bytes = self._put(deadline.slice())
            if taken_bytes:
                self._drop(taken_bytes)
            elif not self.is_peer_alive():
                raise PeerGone("the reader has gone")
            elif deadline.is_past():
                return False
        return True

    def _drop(self, taken_bytes: int) -> None:
        while taken_bytes:
            first = self._rest.popleft()
            if len(first) > taken_bytes:
                self._rest.appendleft(first[taken_bytes:])
                return
            taken_bytes -= len(first)

    @abstractmethod
    def _parts(self, message: bytes) -> Sequence[bytes]:
        """Return the pieces of which `_put` puts a message."""

    @abstractmethod
    def _end(self) -> Sequence[bytes]:
        """Return the pieces that say the end of the stream."""

    @abstractmethod
    def _put(self, seconds: float) -> int:
        """Put the beginning of `_rest`, waiting up to `seconds`; return how many bytes went."""

    @abstractmethod
    def _has_client(self, seconds: float) -> bool:
        """Say whether a client has come, waiting up to `seconds` for it."""

    def _is_drained(self, seconds: float) -> bool:  # noqa: ARG002 - for those that wait
        """Say whether all is in the client's hands, or will be without us; may wait."""
        return True


class Receiver(Channel):
    """The client's end."""

    def __init__(self) -> None:
        self._has_ended = False

    def receive(self, timeout: float | None = None) -> bytes | None:
        """Return the next message; None at, and after, the end of the stream.

        Raises ChannelTimeout, PeerGone (what arrived before is returned first).
        """
        deadline = Deadline(timeout)
        while not self._has_ended:
            taken = self._take(deadline.slice())
            if taken is Mark.NOTHING and not self.is_peer_alive():
                taken = self._take(0)  # what it put between our look and its death
                if taken is Mark.NOTHING:
                    raise PeerGone("the server has gone before the end of the stream")
            if taken is Mark.END:
                self._has_ended = True
            elif taken is not Mark.NOTHING:
                return taken
            elif deadline.is_past():
                raise ChannelTimeout("no message came in time")
        return None

    @abstractmethod
    def _take(self, seconds: float) -> bytes | Mark:
        """Take a message, waiting up to `seconds` for it."""
