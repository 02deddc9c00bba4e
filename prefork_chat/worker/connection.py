"""One client as its loop holds it: socket, codec, session, and the lines on their way to it.

A connection belongs to one loop and is touched in that loop's turn only. It is made of what
outlives the process, the socket and the slot, whether the client is new or adopted. It decides
nothing: the loop drives it. Memory counts here: ten thousand idle ones must stay small.
"""

from __future__ import annotations

from enum import Flag
from typing import TYPE_CHECKING, Final

from prefork_chat.chat.session import Session
from prefork_chat.protocol.decoder import Decoder
from prefork_chat.protocol.envelope import Origin
from prefork_chat.worker import progress

if TYPE_CHECKING:
    from socket import SocketType

    from prefork_chat.worker.backlog import Backlog
    from prefork_chat.worker.clerk import Inquiry
    from prefork_chat.worker.members import Membership


class Pause(Flag):
    """Why a connection is not being read. It is read again when the last reason has gone.

    Connections keep the sum of the values: plain integers, which the hot path can test quickly.
    """

    UNREAD = 1  # its own replies pile up: it does not read them
    CONGESTED = 2  # the loop that it writes to is behind
    RATE = 4  # it has used up its lines per second
    DEPARTING = 8  # it said LEAV, or sent end of file, or is being closed
    STOPPING = 16  # the worker goes down
    INQUIRY = 32  # the answer to its last line takes a while


DEPARTING = Pause.DEPARTING.value
STANDING = Pause.DEPARTING.value | Pause.INQUIRY.value
"""What stands behind the line that brought this about is not to be dealt with, or not yet."""

_NO_ROOMS: Final[dict[bytes, Membership]] = {}
"""For all who are in none; whoever enters one gets another dictionary."""


class Connection:
    """A client socket, its codec and its session. Owner: the loop that has the client.

    `fd` is -1 once it is given up. `out` are whole lines of this turn for the client, without ends.
    `slot` and `generation` name its session for all processes. `origin` is made at its first CHAT,
    so that the many who only listen need none. `outstanding` counts its CHATs without an outcome
    yet. `flags` are those of `progress`. `written` is the position in its stream behind all that
    was meant for it so far, `dealt` behind all of its own that was dealt with, `consumed` behind
    what the kernel has no longer; -1: ask the kernel. `is_followed`: each peek goes on behind the
    last one. `rooms` are its memberships, by the room's key, and belong to `Members`. `inquiry` is
    the question that it waits for, or whose answer is to be carried out.
    """

    __slots__ = (
        "backlog",
        "consumed",
        "credit",
        "credited_at",
        "dealt",
        "decoder",
        "departs_at",
        "fd",
        "flags",
        "generation",
        "has_said_goodbye",
        "inquiry",
        "is_followed",
        "last_words",
        "origin",
        "out",
        "outstanding",
        "pauses",
        "rooms",
        "session",
        "slot",
        "socket",
        "written",
    )

    def __init__(self, client: SocketType, slot: int, generation: int, word: int = 0) -> None:
        self.socket = client
        self.fd = client.fileno()
        self.slot = slot
        self.generation = generation
        self.decoder = Decoder(word & progress.DECODER)
        self.session = Session(
            quiet=bool(word & progress.QUIET),
            registered=bool(word & progress.REGISTERED),
            presence=bool(word & progress.PRESENCE),
            muted=bool(word & progress.MUTED),
        )
        self.flags = word & progress.FLAGS
        self.outstanding = word >> progress.OUTSTANDING_SHIFT & progress.OUTSTANDING
        self.written = -1
        self.dealt = -1
        self.consumed = -1
        self.is_followed = False
        self.inquiry: Inquiry | None = None
        self.origin: Origin | None = None
        self.out: list[bytes] = []
        self.rooms = _NO_ROOMS
        self.backlog: Backlog | None = None
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

    @property
    def is_standing(self) -> bool:
        """True while what it sent last is not to be dealt with: it departs, or has a question."""
        return bool(self.pauses & STANDING)

    @property
    def word(self) -> int:
        """All that a successor must know besides the name: see `progress`."""
        return self.outstanding << progress.OUTSTANDING_SHIFT | self.flags | self.decoder.state

    def introduce(self, p_id: int, t_id: int) -> Origin:
        """Make what tells other loops who the session is, which is at that loop."""
        session = self.session
        place = (p_id, t_id, self.slot, self.generation)
        return Origin(*place, session.quiet, session.registered, session.name)

    def note_extras(self) -> bool:
        """Take over what the session asked for by HELO; say whether it wants presence from now."""
        if self.session.quiet and not self.flags & progress.QUIET:
            self.flags |= progress.QUIET
            self.origin = None  # made anew: it tells others what to answer
        wants_presence = self.session.presence and not self.flags & progress.PRESENCE
        if wants_presence:
            self.flags |= progress.PRESENCE
        return wants_presence

    def note_registered(self) -> None:
        """Take over that the session has shown whose account its name is."""
        if self.session.registered and not self.flags & progress.REGISTERED:
            self.flags |= progress.REGISTERED
            self.origin = None
