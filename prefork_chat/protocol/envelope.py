r"""What a datagram between two loops looks like: sections of whole client lines.

Cleaned lines hold no control byte but TAB, so control bytes can frame them and nothing is packed
per message: a message crosses processes as the very line its sender wrote, and one `split` opens a
datagram again.

    datagram = t_id (1 byte) section *(RS section)      RS = 0x1e
    section  = "D" loop SP number                       the following are datagram `number` of
                                                        that loop, until the next "D"
             | "M" origin LF line *(LF line)            messages: the destination loop delivers
                                                        each line
             | "R" slot SP generation SP answered LF line *(LF line)
                                                        receipts: ready reply lines for a session;
                                                        `answered` of its CHATs are settled by them
             | "G" batch SP place SP generation SP loops SP room LF
               "M" origin LF message *(LF message)      a batch for a room (place, generation):
                                                        messages for all its members at that loop;
                                                        loops: a bit for each that is sent it, hex
             | "K" batch SP reached *(SP batch SP reached)
                                                        so many members there were reached by each
                                                        of these batches of the loop that gets this
             | "V" place SP generation *(LF sign name)  who has come ("+") to a room and gone ("-")
             | "H" LF filed *(GS filed)                 for the historian: this has arrived, between
                                                        accounts, and is to be stored
             | "A" p_id SP t_id LF section *(GS section)
                                                        for the historian: when all that came before
                                                        is stored, that loop is to get these
             | "T" name                                 for the historian: this account has joined
             | "O" …                            what the operator tells the loop: see `directives`
    origin   = p_id SP t_id SP slot SP generation SP flags SP name
                                                        decimal numbers; flags: "q" quiet, "r"
                                                        registered; "-": neither
    line     = ["@" tag SP] "CHAT" SP destination SP message
                                                        as the client typed it, verb in upper case
    filed    = "=" name LF line *(LF line)              an account, and what it said; GS = 0x1d

Every datagram begins with its "D"; the router puts several into one. Numbers of a loop only grow:
who knows the last one that he took tells what he is sent twice.

Written by the loop of the sender or by the operator's console, forwarded unopened by the router (it
looks at the first byte only), read by the destination's loop. Pure: bytes in, bytes out. Datagrams
come from our own processes only, so a malformed one is a bug of ours and raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

SECTION_SEPARATOR = b"\x1e"
INNER_SEPARATOR = b"\x1d"
NUMBER = b"D"
MESSAGES = b"M"
RECEIPTS = b"R"
ROOM_BATCH = b"G"
REACHED = b"K"
PRESENCE = b"V"
STORE = b"H"
SEND_ON = b"A"
HERE = b"T"
DIRECTIVE = b"O"

SECTION_BYTES = 48 * 1024
"""A datagram is closed when it holds this much: batches up to 64 KiB are cheap to allocate in the
kernel, and the smallest default socket buffer (212,992 bytes, of which an skb costs about a third
more than its data) still takes several."""

RECEIPT_LINES = 256
"""Most replies of one RECEIPTS section: 256 errors of the longest kind are about 45 KB, a batch of
`OK`s is one line here.
"""


@dataclass(slots=True, eq=False)
class Origin:
    """Where a section's lines come from, and so where their receipts go; never changed once made.

    `header` begins each of its MESSAGES sections; `prefix` is what stands before the message at the
    receiver's end (`CHAT alice `).
    """

    p_id: int
    t_id: int
    slot: int
    generation: int
    is_quiet: bool
    is_registered: bool
    name: bytes
    header: bytes = field(init=False)
    prefix: bytes = field(init=False)

    def __post_init__(self) -> None:
        place = (self.p_id, self.t_id, self.slot, self.generation)
        flags = b"q" * self.is_quiet + b"r" * self.is_registered or b"-"
        self.header = b"M%d %d %d %d %b %b\n" % (*place, flags, self.name)
        self.prefix = b"CHAT " + self.name + b" "

    @classmethod
    def parse(cls, header: bytes) -> Origin:
        """Read an origin back from a section's first line; ValueError for what no loop wrote."""
        p_id, t_id, slot, generation, flags, name = header[1:].split(b" ")
        place = (int(p_id), int(t_id), int(slot), int(generation))
        return cls(*place, b"q" in flags, b"r" in flags, name)


class RoomBatch(NamedTuple):
    """The first line of a ROOM_BATCH section: its number at its loop, and the room it is for.

    `loops` has a bit for each loop that is sent it, by index.
    """

    batch: int
    place: int
    generation: int
    loops: int
    room: bytes


def pack_datagram(t_id: int, loop: int, number: int, sections: list[bytes]) -> bytes:
    """Build the datagram `number` of the loop with index `loop`, for loop `t_id`."""
    return b"%cD%d %d\x1e%b" % (t_id, loop, number, SECTION_SEPARATOR.join(sections))


def parse_number(section: bytes) -> tuple[int, int]:
    """Return (index of the sending loop, number) of a "D" section."""
    loop, number = section[1:].split(b" ")
    return int(loop), int(number)


def pack_messages(origin: Origin, lines: list[bytes]) -> bytes:
    """Build a MESSAGES section of `lines` (clean, without ends)."""
    return origin.header + b"\n".join(lines)


def portions(sections: list[bytes]) -> list[list[bytes]]:
    """Divide sections, in order, into as many at a time as a datagram may hold."""
    divided: list[list[bytes]] = [[]]
    size = 0
    for section in sections:
        if divided[-1] and size + len(section) > SECTION_BYTES:
            divided.append([])
            size = 0
        divided[-1].append(section)
        size += len(section)
    return divided


def pack_filed(name: bytes, lines: bytes) -> bytes:
    """Build what a STORE section has of one account: its lines, joined by LF."""
    return b"=%b\n%b" % (name, lines)


def pack_store(filed: list[bytes]) -> bytes:
    """Build a STORE section of what accounts have said."""
    return b"H\n" + INNER_SEPARATOR.join(filed)


def parse_store(body: bytes) -> bytes:
    """Return what was filed, joined by SECTION_SEPARATOR, of a STORE section's body."""
    return body.replace(INNER_SEPARATOR, SECTION_SEPARATOR)


def pack_send_on(p_id: int, t_id: int, sections: list[bytes]) -> bytes:
    """Build a SEND_ON section of what loop (p_id, t_id) is to get."""
    return b"A%d %d\n%b" % (p_id, t_id, INNER_SEPARATOR.join(sections))


def parse_send_on(header: bytes, body: bytes) -> tuple[int, int, bytes]:
    """Return (p_id, t_id, sections) of a SEND_ON section; sections: joined as in a datagram."""
    p_id, t_id = header[1:].split(b" ")
    return int(p_id), int(t_id), body.replace(INNER_SEPARATOR, SECTION_SEPARATOR)


def pack_here(name: bytes) -> bytes:
    """Build a HERE section."""
    return HERE + name


def parse_here(section: bytes) -> bytes:
    """Return the name of a HERE section."""
    return section[1:]


def pack_receipt(slot: int, generation: int, answered: int, text: bytes) -> bytes:
    """Build the RECEIPTS section of replies that are joined already, and short."""
    return b"R%d %d %d\n%b" % (slot, generation, answered, text)


def pack_receipts(slot: int, generation: int, answered: int, lines: list[bytes]) -> list[bytes]:
    """Build the RECEIPTS sections that bring reply `lines` to a session.

    They settle `answered` of its CHATs. Usually one; errors are longer than the lines that they
    answer, so a batch of them may need several.
    """
    header = b"R%d %d " % (slot, generation)
    sections = []
    while lines:
        text = b"\n".join(lines[:RECEIPT_LINES])
        lines = lines[RECEIPT_LINES:]
        sections.append(b"%b%d\n%b" % (header, 0 if lines else answered, text))
    return sections


def pack_room_batch(header: RoomBatch, origin: Origin, messages: list[bytes]) -> bytes:
    """Build a ROOM_BATCH section of `messages` (clean, without ends)."""
    return b"G%d %d %d %x %b\n%b%b" % (*header, origin.header, b"\n".join(messages))


def open_room_batch(header: bytes, body: bytes) -> tuple[RoomBatch, bytes, bytes]:
    """Return what a ROOM_BATCH section says: header, first line of its origin, messages."""
    batch, place, generation, loops, room = header[1:].split(b" ")
    origin, _, messages = body.partition(b"\n")
    numbers = (int(batch), int(place), int(generation), int(loops, 16))
    return RoomBatch(*numbers, room), origin, messages


def parse_room_batch(header: bytes, body: bytes) -> tuple[RoomBatch, bytes, list[bytes]]:
    """As `open_room_batch`, with the messages one by one."""
    batch, origin, messages = open_room_batch(header, body)
    return batch, origin, messages.split(b"\n")


def pack_reached(reached: list[tuple[int, int]]) -> bytes:
    """Build a REACHED section of (batch, members reached), at least one."""
    return b"K" + b" ".join(b"%d %d" % pair for pair in reached)


def parse_reached(section: bytes) -> list[tuple[int, int]]:
    """Return the (batch, members reached) of a REACHED section."""
    numbers = map(int, section[1:].split(b" "))
    return list(zip(numbers, numbers, strict=True))


def pack_presence(place: int, generation: int, names: dict[bytes, bool]) -> bytes:
    """Build a PRESENCE section: by name, whether somebody has come to a room, or gone."""
    lines = [(b"+" if is_here else b"-") + name for name, is_here in names.items()]
    return b"\n".join((b"V%d %d" % (place, generation), *lines))


def parse_presence(header: bytes, body: bytes) -> tuple[int, int, dict[bytes, bool]]:
    """Return (place, generation, names) of a PRESENCE section."""
    place, generation = header[1:].split(b" ")
    names = {line[1:]: line.startswith(b"+") for line in body.split(b"\n")}
    return int(place), int(generation), names


def merge(datagrams: list[bytes]) -> list[bytes]:
    """Join datagrams for the same loop, in order, into one each."""
    if len(datagrams) < 2:
        return datagrams
    by_loop: dict[int, list[bytes]] = {}
    for datagram in datagrams:
        by_loop.setdefault(datagram[0], []).append(datagram[1:])
    return [bytes((t_id,)) + SECTION_SEPARATOR.join(rest) for t_id, rest in by_loop.items()]


def parse_receipts(header: bytes) -> tuple[int, int, int]:
    """Return (slot, generation, answered) of a RECEIPTS section's first line."""
    slot, generation, answered = header[1:].split(b" ")
    return int(slot), int(generation), int(answered)


def pack_line(tag: bytes, destination: bytes, message: bytes) -> bytes:
    """Build a routed line; the tag may be b""."""
    line = b"CHAT %b %b" % (destination, message)
    return b"@%b %b" % (tag, line) if tag else line


def parse_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (tag or b"", destination as typed, message) of a routed line."""
    tag = b""
    if line.startswith(b"@"):
        tag, _, line = line[1:].partition(b" ")
    _, destination, message = line.split(b" ", 2)
    return tag, destination, message
