"""Messages on a queue whose own messages are short: how they are cut, joined, and their kinds.

A message travels as any number of MORE and one LAST part, in order; END is the end of the stream.
HELLO says nothing, and is passed over. POSIX queues have the kind in front of the part, as a byte;
System V queues have it as the message's type.
"""

from __future__ import annotations

from typing import Final

from prefork_chat.channels.channel import MAX_MESSAGE_BYTES, Mark
from prefork_chat.channels.errors import ChannelError

LAST: Final = 1
MORE: Final = 2
END: Final = 3
HELLO: Final = 4


def cut(message: bytes, part_bytes: int) -> list[bytes]:
    """Return the parts of a message, a byte of kind and up to `part_bytes` each."""
    starts = range(0, len(message) or 1, part_bytes)
    parts = [b"%c" % MORE + message[start : start + part_bytes] for start in starts]
    parts[-1] = b"%c" % LAST + parts[-1][1:]
    return parts


class Joiner:
    """Makes messages of parts. Owner: a receiver."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0

    def add(self, kind: int, body: bytes) -> bytes | Mark:
        """Take the next part; return a message when it is whole, or the end."""
        if kind == END:
            return Mark.END
        if kind == HELLO:
            return Mark.NOTHING
        if kind not in {LAST, MORE}:
            raise ChannelError(f"this is not a channel's queue: a message of type {kind}")
        self._parts.append(body)
        self._bytes += len(body)
        if self._bytes > MAX_MESSAGE_BYTES:
            raise ChannelError(f"a message has more than {MAX_MESSAGE_BYTES:,} bytes")
        if kind == MORE:
            return Mark.NOTHING
        message = body if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        return message
