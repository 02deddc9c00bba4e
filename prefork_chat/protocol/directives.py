"""What the operator tells the loops: the body of an "O" section, and what a loop answers.

    section   = "O" place SP visit SP number LF directive    directive: one JSON object, by `kind`

A console sends a directive to every loop, in a datagram of its own with the same number in its "D":
a loop does it in the turn that takes it, and answers with how many sessions it was about (see
`events`). Written by consoles, read by loops. JSON escapes controls, so no directive can end its
section. Pure; a malformed one is a bug of ours and raises ValueError. Names are folded;
`terms` say until when and why: see `bans.terms`.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from msgspec import Struct


class Note(Struct, frozen=True, tag="note", tag_field="kind"):
    """Say something to everybody."""

    text: str


class Tell(Struct, frozen=True, tag="tell", tag_field="kind"):
    """Say something to one."""

    name: str
    text: str


class Kick(Struct, frozen=True, tag="kick", tag_field="kind"):
    """Close the connection of one; he may come again."""

    name: str
    terms: str = ""


class Expel(Struct, frozen=True, tag="expel", tag_field="kind"):
    """Close the connections of all whom a new ban is about: a name, an address, a network."""

    target: str
    terms: str = ""


class Mute(Struct, frozen=True, tag="mute", tag_field="kind"):
    """Take the voice of one away, or give it back: the file of bans says which."""

    name: str


Directive: TypeAlias = Note | Tell | Kick | Expel | Mute

_encode: Final = msgspec.json.Encoder().encode
_decoder: Final[msgspec.json.Decoder[Directive]] = msgspec.json.Decoder(Directive)


def pack(place: int, visit: int, number: int, directive: Directive) -> bytes:
    """Build the section by which the console at a place sends its directive of that number."""
    return b"O%d %d %d\n%b" % (place, visit, number, _encode(directive))


def parse_header(header: bytes) -> tuple[int, int, int]:
    """Return (place, visit, number) of a section's first line."""
    place, visit, number = header[1:].split(b" ")
    return int(place), int(visit), int(number)


def parse(body: bytes) -> Directive:
    """Read a directive."""
    return _decoder.decode(body)
