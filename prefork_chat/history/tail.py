r"""The tail of the history: the newest batches, as they came.

What is committed must be safe and readable at once, but need not be in every table at once. So a
batch goes into the file as a blob, which costs a tenth of what its rows would; `sorting` makes
rows of it later, many at a time, when there is nothing else to do. Until then who reads goes
through it: ids in the tail are higher than all that are sorted.

    body    = (RS section)+                             RS = 0x1e
    section = sender LF line *(LF line)                 to people: each line as its sender wrote it,
                                                        `["@" tag SP] "CHAT" SP recipient SP text`
            | number SP room LF text *(LF text)         to a room
    sender  = number | "=" name                         an account's name, as it was written then
    number, room = decimal numbers of `people`

A large batch is cut into several bodies, so that nobody who wants a bit of it has to read, or sort,
all of it.

Pure: bytes in, values out. Bodies are written by us alone, so a malformed one is a bug and raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BODY_BYTES: Final = 16 * 1024
"""From here on the end of a section is the end of a body."""

SEPARATOR: Final = b"\x1e"
_ROOM: Final = b"#"

Sender: TypeAlias = int | str
"""A number of `people`, or the name of an account."""


def section(sender: int, lines: bytes, room: int = 0) -> bytes:
    """Build a section of somebody's lines, joined by LF."""
    if room:
        return b"\x1e%d %d\n%b" % (sender, room, lines)
    return b"\x1e%d\n%b" % (sender, lines)


def count(lines: bytes) -> int:
    """Return how many lines there are."""
    return lines.count(b"\n") + 1


def count_all(body: bytes) -> int:
    """Return how many lines there are in all sections of a body."""
    return body.count(b"\n")  # a header has one for its section's last line


def cut(sections: bytes) -> Iterator[bytes]:
    """Give bodies of about BODY_BYTES, at least one, that have all sections in order."""
    start = 0
    while (end := sections.find(SEPARATOR, start + BODY_BYTES)) > 0:
        yield sections[start:end]
        start = end
    yield sections[start:] if start else sections


def sections(body: bytes) -> Iterator[tuple[Sender, int, list[bytes]]]:
    """Give (sender, room or 0, lines) of each section, in order."""
    for part in body[1:].split(SEPARATOR):
        header, *lines = part.split(b"\n")
        if header.startswith(b"="):
            yield header[1:].decode(), 0, lines
            continue
        sender, _, room = header.partition(b" ")
        yield int(sender), int(room or 0), lines


def words(line: bytes) -> tuple[bytes, bytes]:
    """Return (recipient as typed, text) of a line to somebody."""
    if line.startswith(b"@"):
        line = line[line.index(b" ") + 1 :]
    _, recipient, text = line.split(b" ", 2)
    return recipient, text


def traces(number: int, key: bytes) -> tuple[bytes, ...]:
    """Return what is in a body, in lower case, that has to do with a person or a room."""
    if key.startswith(_ROOM):
        return (b" %d\n" % number,)
    return b"\x1e%d\n" % number, b"\x1e=%b\n" % key, b" %b " % key


def select(
    first: int, body: bytes, lowered: bytes, sought: Iterable[bytes]
) -> Iterator[tuple[int, Sender, int, list[bytes]]]:
    """Give (id of the first line, sender, room or 0, lines) of some sections, in order.

    They are all that have one of these traces; `lowered` is the body in lower case.
    """
    places = {place for trace in sought for place in _starts(lowered, trace)}
    id_ = first
    counted = 0
    for start in sorted(places):
        end = body.find(SEPARATOR, start + 1)
        # Every line before has its LF, and the header of its section in place of the last one.
        id_ += body.count(b"\n", counted, start)
        counted = start
        for sender, room, lines in sections(body[start : end if end > 0 else None]):
            yield id_, sender, room, lines


def _starts(body: bytes, sought: bytes) -> Iterator[int]:
    """Give where sections begin in which something is found, each once."""
    place = 0
    while (place := body.find(sought, place)) >= 0:
        yield body.rindex(SEPARATOR, 0, place + 1)
        place = body.find(SEPARATOR, place + 1)
        if place < 0:
            return
