"""The decoder: cuts the bytes of one connection into clean lines.

It decides framing: what a line is (LF or CRLF at its end, at most 1024 bytes with it), what becomes
of one that is too long or is not UTF-8, and when a peer does not speak this protocol at all. The
loop that owns the connection feeds it whatever a read returned and acts on what it gives back; the
results depend on the bytes alone, never on how reads happened to split them. Nothing that a client
sends can make it raise, or hold more than one line. No socket, no clock, no log.

Speed comes from working on chunks: a chunk of plain lines is checked and cut by a few calls into C.
What is unusual takes the slow path, line by line, which defines the rules.
"""

import re
from typing import Final

from prefork_chat.protocol.replies import MAX_LINE_BYTES, SENTENCES, Code
from prefork_chat.protocol.text import UNPLAIN_MARKED, clean

MAX_UNENDED_BYTES: Final = 65536
"""So many bytes without an LF end the connection: a peer that sends them does not send lines."""


class Fault(bytes):
    """Stands for a line that was not accepted: a code and a sentence, as `replies.fault` takes it.

    A type of its own, so that no line that a client writes can be mistaken for one.
    """

    __slots__ = ()


class FatalFault(Fault):
    """A Fault after which no line follows: say it, then close the connection."""

    __slots__ = ()


TOO_LONG: Final = Fault(b"%b %b" % (Code.TOOLONG, SENTENCES[Code.TOOLONG]))
NOT_UTF8: Final = Fault(b"%b %b" % (Code.NOTUTF8, SENTENCES[Code.NOTUTF8]))
UNENDED: Final = FatalFault(
    b"TOOLONG 64 KiB came without a line end, goodbye: connect again and end each line with LF"
)
TLS: Final = FatalFault(
    b"BADVERB this port is plain text, not TLS, goodbye: connect without TLS, for example with nc"
)
HTTP: Final = FatalFault(
    b"BADVERB this port is a chat server, not HTTP, goodbye: connect with a chat client or nc"
)

# RFC 8446 5.1: a record begins with its type, 22 for a handshake, and a version, whose first byte
# is 3 in every version so far.
_TLS_HANDSHAKE = b"\x16\x03"

# The methods of RFC 9110 9.3 and RFC 5789, and the preface of RFC 9113 3.4. The version may be
# missing (HTTP/0.9), or not be there yet in a long request. Any web page can make a browser POST
# lines here, so nothing behind such a first line may be obeyed.
_is_http_request = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) (?:/|\*|https?://|.* HTTP/)"
).match

# The stages of a connection. Only the first line is looked at for other protocols.
_FIRST_LINE = 0
_LINES = 1
_TOO_LONG_LINE = 2
_CLOSED = 3
_STAGE_BITS = 2
_STAGE_MASK = 3


class Decoder:
    """The framing state of one connection, owned by the loop that owns the connection.

    `partial` is the unfinished line, raw, always shorter than MAX_LINE_BYTES. What it knows besides
    is the integer `state`; a decoder made of it, and fed that line again, continues where this one
    was. It is less than 2**25, if no more than 8 MiB are fed at once. Both are for others to read.
    """

    __slots__ = ("_dropped_bytes", "_stage", "partial", "state")

    def __init__(self, state: int = _FIRST_LINE, partial: bytes = b"") -> None:
        self.state = state
        self.partial = partial
        self._dropped_bytes = state >> _STAGE_BITS  # of an unfinished line that is too long
        self._stage = state & _STAGE_MASK

    def forget_partial(self) -> int:
        """Forget the unfinished line, which will be fed again; return its size in bytes."""
        size = len(self.partial)
        self.partial = b""
        return size

    @property
    def is_closed(self) -> bool:
        """Whether a FatalFault was given back: no more lines come, whatever is fed."""
        return self._stage == _CLOSED

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the lines that they complete, in order.

        A line is clean UTF-8 without its end and never empty. In the place of a line that was not
        accepted stands a Fault. What comes behind the last LF is kept for the next call.
        """
        if self._stage != _LINES:
            return self._feed_slowly(data)
        if self.partial:
            data = self.partial + data
        if len(data) >= MAX_LINE_BYTES and _has_long_line(data):
            self.partial = b""
            return self._feed_slowly(data)
        if data.translate(UNPLAIN_MARKED) == data:
            lines = data.split(b"\n")
            self.partial = lines.pop()
        else:
            end = data.rfind(b"\n") + 1
            self.partial = data[end:]
            lines = _clean_lines(data[:end])
        return lines if all(lines) else [line for line in lines if line]

    def _feed_slowly(self, data: bytes) -> list[bytes]:
        """Do what feed() does, in any stage and line by line."""
        results: list[bytes] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._extend_line(piece, results)
            self._end_line(results)
        self._extend_line(rest, results)
        self.state = self._dropped_bytes << _STAGE_BITS | self._stage
        return results

    def _extend_line(self, piece: bytes, results: list[bytes]) -> None:
        if self._stage == _CLOSED:
            return
        if self._stage == _TOO_LONG_LINE:
            self._dropped_bytes += len(piece)
        else:
            self.partial += piece
            if self._stage == _FIRST_LINE and self.partial.startswith(_TLS_HANDSHAKE):
                self._close(TLS, results)
            elif len(self.partial) >= MAX_LINE_BYTES:
                self._drop_line(results)
        if self._dropped_bytes >= MAX_UNENDED_BYTES:
            self._close(UNENDED, results)

    def _drop_line(self, results: list[bytes]) -> None:
        """The line is too long for sure: answer now, and drop the rest of it as it comes."""
        if self._stage == _FIRST_LINE and _is_http_request(self.partial[:MAX_LINE_BYTES]):
            self._close(HTTP, results)
            return
        results.append(TOO_LONG)
        self._dropped_bytes = len(self.partial)
        self.partial = b""
        self._stage = _TOO_LONG_LINE

    def _end_line(self, results: list[bytes]) -> None:
        if self._stage == _CLOSED:
            return
        raw = self.partial
        self.partial = b""
        self._dropped_bytes = 0
        if self._stage == _FIRST_LINE and _is_http_request(raw):
            self._close(HTTP, results)
            return
        line = _clean_line(raw)
        if line:
            results.append(line)
        if line or self._stage == _TOO_LONG_LINE:
            self._stage = _LINES

    def _close(self, reason: FatalFault, results: list[bytes]) -> None:
        results.append(reason)
        self.partial = b""
        self._dropped_bytes = 0
        self._stage = _CLOSED


def measure(state: int, data: bytes, count: int) -> tuple[int, int]:
    """Find where a decoder stands behind the first `count` results of `data`.

    `state` is what it was before. Returns (bytes of `data` up to there, state there).
    """
    decoder = Decoder(state)
    size = results = 0
    for piece in data.split(b"\n"):
        if results >= count:
            break
        results += len(decoder.feed(piece + b"\n"))
        size += len(piece) + 1
    return size, decoder.state


def _has_long_line(data: bytes) -> bool:
    """Say whether some line of `data`, ended or not, is too long: one step per MAX_LINE_BYTES."""
    start = 0
    last_start = len(data) - MAX_LINE_BYTES
    while start <= last_start:
        end = data.rfind(b"\n", start, start + MAX_LINE_BYTES)
        if end < 0:
            return True
        start = end + 1
    return False


def _clean_lines(chunk: bytes) -> list[bytes]:
    """Return the lines of `chunk`, all whole, empty ones too; Faults for what is not UTF-8."""
    try:
        return clean(chunk).split(b"\n")
    except UnicodeDecodeError:
        return [_clean_line(raw) for raw in chunk.split(b"\n")]


def _clean_line(raw: bytes) -> bytes:
    try:
        return clean(raw + b"\n")[:-1]
    except UnicodeDecodeError:
        return NOT_UTF8
