"""What a line asks the worker to do: the vocabulary between chat, which decides, and the worker.

Every line gives exactly one effect, and every effect ends in exactly one `OK` or `ERR`: Reply,
Refuse and Close carry it; for the others `outcomes` words it once the worker knows how it went.
Lines have no LF; a `tag` has no `@` and is empty when the client gave none. Effects are values and
may be passed between threads.

Some are questions: what they ask for takes a while, and somebody else than the loop finds it out.
What that is, is an `Answer`.
"""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Reply:
    """Send these lines; the last of them is the `OK`."""

    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send this `ERR`: the line was rejected and nothing was changed."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Send this `ERR`, then close the connection: the peer does not speak this protocol."""

    line: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """JOIN: claim the name `key` in the registry, to be shown as `name`."""

    name: bytes
    key: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class Route:
    """CHAT: bring `message` to the session named `dest`, as typed by the sender."""

    tag: bytes
    dest: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class TellRoom:
    """CHAT #room: bring `message` to all other members of `room`, as typed by the sender."""

    tag: bytes
    room: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class EnterRoom:
    """ENTR: make the session a member of `room`, as typed; a room that nobody is in begins."""

    room: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class ExitRoom:
    """EXIT: let the session be no member of `room` any more."""

    room: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class ListRooms:
    """ROOM: list the rooms, and which of them the session is in."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class ListMembers:
    """WHOS #room: list who is in `room`."""

    room: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class ListNames:
    """WHOS: list who is here."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """STAT: report how the daemon is doing."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class Leave:
    """LEAV: free the name, answer, and close the connection once the answer is out."""

    tag: bytes


RoomEffect = TellRoom | EnterRoom | ExitRoom | ListRooms | ListMembers
"""What concerns rooms."""


@dataclass(frozen=True, slots=True)
class Authenticate:
    """JOIN with a password, or of a name that is, or may be, somebody's account.

    `password` is empty if none was given.
    """

    verb: ClassVar[bytes] = b"JOIN"
    name: bytes
    key: bytes
    password: bytes = field(repr=False)
    tag: bytes


@dataclass(frozen=True, slots=True)
class SetPassword:
    """PASS: make the session's name an account with this password, or change its password.

    `is_owner`: the session has shown that the account is its own.
    """

    verb: ClassVar[bytes] = b"PASS"
    name: bytes
    key: bytes
    is_owner: bool
    password: bytes = field(repr=False)
    tag: bytes


@dataclass(frozen=True, slots=True)
class Admit:
    """The answer to Authenticate: claim the name, as its owner or because it is nobody's."""

    claim: Claim
    is_owner: bool


@dataclass(frozen=True, slots=True)
class Enrol:
    """The answer to SetPassword: the account of the session's name is its own."""

    tag: bytes


@dataclass(frozen=True, slots=True)
class Identify(Authenticate):
    """READ: show that an account is one's own, to read its history without joining."""

    verb: ClassVar[bytes] = b"READ"


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """HIST: messages of the account `user` (a key), in order.

    `about` is the key of somebody or of a room, empty: everything, with `rooms`, those that the
    session is in. The last `count` below the id `before`, 0: of all; or, if `after` is not 0, the
    first above that.
    """

    verb: ClassVar[bytes] = b"HIST"
    user: bytes
    rooms: tuple[bytes, ...]
    about: bytes
    count: int
    before: int
    after: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class FindWords:
    """FIND: the last messages that `user` may read and that have all of `words`."""

    verb: ClassVar[bytes] = b"FIND"
    user: bytes
    rooms: tuple[bytes, ...]
    words: bytes
    before: int
    tag: bytes


@dataclass(frozen=True, slots=True)
class Vouch:
    """The answer to Identify: the account of this folded name is his who asks."""

    key: bytes
    tag: bytes


Question = Authenticate | SetPassword | ReadHistory | FindWords
"""What is asked of a clerk of the worker. Asked again, it must come to the same."""

Act = Reply | Refuse | Close | Claim | Route | ListNames | Report | Leave | RoomEffect
"""What can be done at once."""

Effect = Act | Question

Answer = Reply | Refuse | Admit | Enrol | Vouch
"""What a question comes to."""
