"""What is said about rooms: the answers to ENTR, EXIT, ROOM, WHOS #room and CHAT #room.

Called by the worker, in the loop of the connection, once it knows how an effect went. Pure. Lines
have no LF; a `tag` is empty when the client gave none; a room's `name` is as first typed, `room` as
the client has just typed it.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Final

from prefork_chat.chat.effects import EnterRoom, ExitRoom, ListMembers, TellRoom
from prefork_chat.protocol.replies import NAME_RULE, Code, data, err, note, ok, shown

ENTR: Final = b"ENTR"
EXIT: Final = b"EXIT"
ROOM: Final = b"ROOM"

_CHAT: Final = b"CHAT"
_WHOS: Final = b"WHOS"

ROOM_RULE: Final = b"a room is # and a name, " + NAME_RULE
"""What a person is told who wrote something that is no room."""

_MOST_NAMES: Final = 28
"""In one line: the longest names and the longest room still make it shorter than 1024 bytes."""

_VERBS: Final = MappingProxyType(
    {EnterRoom: ENTR, ExitRoom: EXIT, ListMembers: _WHOS, TellRoom: _CHAT}
)


def entered(name: bytes, members: int, tag: bytes) -> bytes:
    """Return the answer to who is in the room now, among so many."""
    return ok(ENTR, b"%b n=%d" % (name, members), tag)


def exited(name: bytes, members: int, tag: bytes) -> bytes:
    """Return the answer to who is in the room no more, where so many are left."""
    return ok(EXIT, b"%b n=%d" % (name, members), tag)


def told(name: bytes, reached: int, tags: Iterable[bytes]) -> list[bytes]:
    """Return the answers to messages of these tags that have reached so many members."""
    fields = b"%b n=%d" % (name, reached)
    return [ok(_CHAT, fields, tag) for tag in tags]


def heading(name: bytes, sender: bytes) -> bytes:
    """Return what comes before a message in the line that members get."""
    return b"CHAT %b %b " % (name, sender)


def missed(name: bytes, messages: int) -> bytes:
    """Return what a member is told who read too slowly to get so many messages."""
    return note(b"MISSED %d %b" % (messages, name))


def here(name: bytes, people: Sequence[bytes]) -> list[bytes]:
    """Return what tells a member who is in the room, or has come."""
    return _in_lines(b"HERE " + name, people)


def gone(name: bytes, people: Sequence[bytes]) -> list[bytes]:
    """Return what tells a member who has gone."""
    return _in_lines(b"GONE " + name, people)


def all_gone(name: bytes) -> bytes:
    """Return what tells a member to forget who was in the room: he is told anew."""
    return b"GONE %b *" % name


def listed(rooms: Iterable[tuple[bytes, int, bool]], tag: bytes) -> tuple[bytes, ...]:
    """Return the answer to ROOM: a line for each (name, members, is the client one of them)."""
    lines = [
        data(ROOM, b"%b n=%d%b" % (name, members, b" in" if is_in else b""), tag)
        for name, members, is_in in rooms
    ]
    return (*lines, ok(ROOM, b"n=%d" % len(lines), tag))


def members_listed(name: bytes, members: Sequence[bytes], tag: bytes) -> tuple[bytes, ...]:
    """Return the answer to WHOS #room: a line for each member, and the `OK` that counts them."""
    lines = [data(_WHOS, member, tag) for member in members]
    return (*lines, ok(_WHOS, b"%b n=%d" % (name, len(lines)), tag))


def no_room(effect: EnterRoom | ExitRoom | ListMembers | TellRoom) -> bytes:
    """Return the refusal for a room that nobody is in."""
    return _refused(effect, Code.NOROOM, b"is a room that nobody is in: ENTR %b opens it")


def not_in(effect: ExitRoom | TellRoom) -> bytes:
    """Return the refusal for a room that the client is not in."""
    if isinstance(effect, ExitRoom):
        return _refused(effect, Code.NOTIN, b"is a room that you are not in: ROOM lists yours")
    return _refused(effect, Code.NOTIN, b"is a room that you are not in: ENTR %b first")


def rooms_full(effect: EnterRoom) -> bytes:
    """Return the refusal of a new room, of which there are as many as there may be."""
    text = b"cannot be opened, there are too many rooms: ROOM lists them, ENTR one of those"
    return _refused(effect, Code.FULL, text)


def too_many(effect: EnterRoom, most: int) -> bytes:
    """Return the refusal of one more room to somebody who is in `most` already."""
    text = b"would be one room too many, you are in %d: EXIT one first" % most
    return _refused(effect, Code.FULL, text)


def no_rooms_here(effect: EnterRoom) -> bytes:
    """Return the refusal of any room by a server that is configured to have none."""
    return _refused(effect, Code.DENIED, b"cannot be opened: this server has no rooms")


def unknown(verb: bytes, word: bytes, tag: bytes) -> bytes:
    """Return the refusal of a word that is no room's name."""
    return err(verb, Code.BADNAME, b"%b is no room: %b" % (shown(word), ROOM_RULE), tag)


def _in_lines(start: bytes, people: Sequence[bytes]) -> list[bytes]:
    """Return as many lines as it takes to name so many people."""
    return [
        b" ".join((start, *people[first : first + _MOST_NAMES]))
        for first in range(0, len(people), _MOST_NAMES)
    ]


def _refused(
    effect: EnterRoom | ExitRoom | ListMembers | TellRoom, code: Code, text: bytes
) -> bytes:
    """Build an `ERR <VERB> <CODE> <room> …`; the room may be named again in the text, by %b."""
    text = text.replace(b"%b", effect.room)
    return err(_VERBS[type(effect)], code, b"%b %b" % (effect.room, text), effect.tag)
