r"""The tail of the history: the newest batches, as they came.

What is committed must be safe and readable at once, but need not be in every table at once. So a
batch goes into the file as one blob, which costs a tenth of what its rows would; `sorting` makes
rows of it later, many at a time, when there is nothing else to do. Until then who reads goes
through it: ids in the tail are higher than all that are sorted.

    body    = (RS section)+                             RS = 0x1e
    section = sender LF line *(LF line)                 to people: each line as its sender wrote it,
                                                        `["@" tag SP] "CHAT" SP recipient SP text`
            | sender SP room LF text *(LF text)         to a room
    sender, room = decimal numbers of `people`

Pure: bytes in, values out. Bodies are written by us alone, so a malformed one is a bug and raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SEPARATOR: Final = b"\x1e"


class Unsorted(NamedTuple):
    """A message of the tail; `room` is 0 if it is for somebody: then that is his `key`."""

    id: int
    sender: int
    room: int
    key: str
    text: str


def section(sender: int, lines: bytes, room: int = 0) -> bytes:
    """Build a section of somebody's lines, joined by LF."""
    if room:
        return b"\x1e%d %d\n%b" % (sender, room, lines)
    return b"\x1e%d\n%b" % (sender, lines)


def count(lines: bytes) -> int:
    """Return how many lines there are."""
    return lines.count(b"\n") + 1


def unpack(first: int, body: bytes) -> Iterator[Unsorted]:
    """Give the messages of a body whose first id is `first`, in order."""
    id_ = first
    for part in body[1:].split(_SEPARATOR):
        yield from _open(id_, part)
        id_ += part.count(b"\n")


def select(
    first: int, body: bytes, numbers: Collection[int], keys: Collection[bytes]
) -> Iterator[Unsorted]:
    """Give those that may be by, or to, anybody of these numbers and keys; in order.

    Most of what has nothing to do with them is left out without a look at its lines.
    """
    own = {b"%d" % number for number in numbers}
    wanted = [b" %b " % key for key in keys]
    lowered = body.lower()
    is_mentioned = any(key in lowered for key in wanted)
    if not is_mentioned and not any(
        b"\x1e%b\n" % number in body or b" %b\n" % number in body for number in own
    ):
        return
    id_ = first
    for part, low in zip(body[1:].split(_SEPARATOR), lowered[1:].split(_SEPARATOR), strict=True):
        header = part[: part.index(b"\n")]
        if not own.isdisjoint(header.split(b" ")) or (
            is_mentioned and any(key in low for key in wanted)
        ):
            yield from _open(id_, part)
        id_ += part.count(b"\n")


def _open(id_: int, part: bytes) -> Iterator[Unsorted]:
    """Give the messages of a section whose first id this is."""
    header, *lines = part.split(b"\n")
    number, _, place = header.partition(b" ")
    sender = int(number)
    if place:
        room = int(place)
        for id_, line in enumerate(lines, start=id_):  # noqa: B020, PLR1704
            yield Unsorted(id_, sender, room, "", line.decode())
        return
    for id_, line in enumerate(lines, start=id_):  # noqa: B020
        words = line.split(b" ", 3) if line.startswith(b"@") else [b"", *line.split(b" ", 2)]
        yield Unsorted(id_, sender, 0, words[2].decode().lower(), words[3].decode())
