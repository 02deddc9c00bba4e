"""The wire as a client sees it: bytes into lines, lines into what the server said.

Called by `conversation` with whatever a read returned. What comes from a server is not trusted: it
is decoded with replacement characters and cleaned of all that commands a terminal, and a line that
no server should send is `Strange` and harmless. Nothing here raises. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from prefork_chat.protocol.replies import MAX_LINE_BYTES
from prefork_chat.protocol.text import clean

_MAX_UNENDED_BYTES: Final = 1 << 20
"""No line of a server is that long; what has no end by then is thrown away."""

# Behind what `clean` marks: line and paragraph separators, marks that turn the direction of what
# follows, and invisible characters of which floods of accents are made.
_unwanted = re.compile("[\u200e\u200f\u061c\u2028\u2029\ufeff]")
_is_row = re.compile(r"([0-9]{1,18}) (\S+) (\S+) (\S+)(?: (.*))?").fullmatch
_is_time = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T_]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?Z?"
).fullmatch


class Answer(NamedTuple):
    """The `OK` or `ERR` that ends a command. `text`: fields of an OK, an ERR's words after CODE."""

    tag: str
    verb: str
    code: str
    text: str

    @property
    def is_ok(self) -> bool:
        """Whether it was done."""
        return not self.code


class Data(NamedTuple):
    """One of the lines before an `OK`."""

    tag: str
    verb: str
    fields: str


class Message(NamedTuple):
    """Somebody speaks: to us, or, with a `room`, in that room."""

    room: str
    sender: str
    text: str


class Note(NamedTuple):
    """The server or its operator speaks."""

    text: str


class Presence(NamedTuple):
    """People have come to a room (or are there), or have left it."""

    room: str
    is_here: bool
    names: tuple[str, ...]


class Strange(NamedTuple):
    """A line that this client does not know."""

    text: str


ServerLine: TypeAlias = Answer | Data | Message | Note | Presence | Strange


class Row(NamedTuple):
    """One row of the history; `time` is in seconds since the epoch, 0 if it was not readable."""

    id: int
    time: float
    sender: str
    to: str
    text: str


class LineReader:
    """Cuts the bytes of one connection into lines, without their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Add what was read; return the lines that are whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MAX_UNENDED_BYTES:
            self._rest = b""
        return lines


def parse(line: bytes) -> ServerLine:  # noqa: PLR0911 - a table
    """Return what a line of the server (without its LF) says."""
    words = harmless(line)
    tag = ""
    if words.startswith("@"):
        tag, _, words = words[1:].partition(" ")
    kind, _, rest = words.partition(" ")
    first, _, after = rest.partition(" ")
    match kind:
        case "OK" if first:
            return Answer(tag, first, "", after)
        case "ERR" if after:
            code, _, text = after.partition(" ")
            return Answer(tag, first, code, text)
        case "DATA" if first:
            return Data(tag, first, after)
        case "CHAT" if first.startswith("#") and after:
            sender, _, text = after.partition(" ")
            return Message(first, sender, text)
        case "CHAT" if first:
            return Message("", first, after)
        case "NOTE":
            return Note(rest)
        case "HERE" | "GONE" if first:
            return Presence(first, kind == "HERE", tuple(after.split()))
        case _:
            return Strange(words)


def parse_row(fields: str) -> Row | None:
    """Return the row in the fields of a `DATA HIST` or `DATA FIND` line; None if it is none."""
    match = _is_row(fields)
    if match is None:
        return None
    number, when, sender, to, text = match.groups()
    return Row(int(number), parse_time(when), sender, to, text or "")


def parse_time(text: str) -> float:
    """Return seconds since the epoch for `2026-11-21T16:20:00Z`; 0 if it is no such time."""
    match = _is_time(text)
    if match is None:
        return 0.0
    from datetime import UTC, datetime  # noqa: PLC0415 - slow to load, and only for the history

    *parts, fraction = match.groups()
    year, month, day, hour, minute, second = (int(part) for part in parts)
    try:
        when = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return 0.0
    return when.timestamp() + float(fraction or 0)


def harmless(data: bytes | str) -> str:
    """Return text of somebody else's as it may be shown in a terminal: a `?` for what acts there.

    The server cleans what it passes on; this is for servers that do not.
    """
    encoded = data.encode(errors="replace") if isinstance(data, str) else data
    text = clean(encoded.decode(errors="replace").encode()).decode()
    return _unwanted.sub("?", text.replace("\n", "?").replace("\t", " "))


def split_message(text: str, overhead_bytes: int, line_bytes: int = MAX_LINE_BYTES) -> list[str]:
    """Cut text into messages that fit into lines, between words where that is possible.

    `overhead_bytes`: what else is in such a line, its end included. Characters are never torn.
    """
    room = line_bytes - overhead_bytes
    parts = []
    rest = text.encode(errors="replace")
    while len(rest) > room:
        end = room
        while rest[end] & 0xC0 == 0x80:  # not within a character of UTF-8
            end -= 1
        space = rest.rfind(b" ", room // 2, end + 1)
        cut = end if space < 0 else space
        parts.append(rest[:cut].decode())
        rest = rest[cut:].removeprefix(b" ") if space >= 0 else rest[cut:]
    if rest.strip():
        parts.append(rest.decode())
    return parts
