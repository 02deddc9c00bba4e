"""What a loop tells the operator's consoles: who comes and goes, what is said, what was done.

    datagram = "E" visit SP loop *(RS event)       visit: of the console that it is for
    event    = "J" name SP address                 somebody has joined
             | "L" name                            a name is free again
             | "M" from LF line *(LF line)         messages of one, that were delivered
             | "A" number SP count                 the directive of that number has been carried
                                                   out, and was about so many sessions
             | "T" number                          the loop has a new worker; directives up to that
                                                   number have been carried out by the old one
    line     = ["@" tag SP] "CHAT" SP destination [SP message]

Events are in the order in which they happened. Written by loops, read by consoles. Pure; what is
malformed raises ValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.protocol.envelope import SECTION_SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody has joined, from that address (empty for a Unix socket)."""

    name: bytes
    address: bytes


@dataclass(frozen=True, slots=True)
class Left:
    """A name is free again."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A message was delivered; `text` is None if the operator does not see what is said."""

    sender: bytes
    to: bytes
    text: bytes | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A loop has carried out a directive, which was about `count` sessions."""

    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Directives up to that number have been carried out by a loop that has died since."""

    number: int


Event: TypeAlias = Joined | Left | Said | Answered | Taken

LETTER: Final = b"E"
_MESSAGES: Final = 0x4D


def joined(name: bytes, address: bytes) -> bytes:
    """Build the event of somebody who has joined."""
    return b"J%b %b" % (name, address)


def left(name: bytes) -> bytes:
    """Build the event of a name that is free again."""
    return b"L" + name


def said(sender: bytes, lines: Sequence[bytes]) -> bytes:
    """Build the event of message lines, as routed, that were delivered."""
    return b"M%b\n%b" % (sender, b"\n".join(lines))


def answered(number: int, count: int) -> bytes:
    """Build the answer to a directive."""
    return b"A%d %d" % (number, count)


def taken(number: int) -> bytes:
    """Build what a new worker says of its predecessor's directives."""
    return b"T%d" % number


def count_lines(event: bytes) -> int:
    """Return how many lines a console would show for a packed event."""
    return event.count(b"\n") if event[0] == _MESSAGES else 1


def without_text(line: bytes) -> bytes:
    """Return a message line without its message."""
    words = line.split(b" ", 3)
    return b" ".join(words[: 3 if line.startswith(b"@") else 2])


def pack(visit: int, loop: int, events: Sequence[bytes]) -> bytes:
    """Build a datagram."""
    return b"E%d %d\x1e%b" % (visit, loop, SECTION_SEPARATOR.join(events))


def parse(datagram: bytes) -> tuple[int, int, list[Event]]:
    """Return (visit, index of the loop, events) of a datagram."""
    header, *packed = datagram.split(SECTION_SEPARATOR)
    visit, _, loop = header[1:].partition(b" ")
    return int(visit), int(loop), [event for each in packed for event in _open(each)]


def _open(packed: bytes) -> Iterator[Event]:
    letter, rest = packed[:1], packed[1:]
    first, _, second = rest.partition(b" ")
    match letter:
        case b"M":
            sender, *lines = rest.split(b"\n")
            yield from (_message(sender, line) for line in lines)
        case b"J":
            yield Joined(first, second)
        case b"L":
            yield Left(rest)
        case b"A":
            yield Answered(int(first), int(second))
        case b"T":
            yield Taken(int(rest))
        case _:
            raise ValueError(f"no event: {packed[:20]!r}")


def _message(sender: bytes, line: bytes) -> Said:
    if line.startswith(b"@"):
        line = line.partition(b" ")[2]
    _, to, *text = line.split(b" ", 2)
    return Said(sender, to, text[0] if text else None)
