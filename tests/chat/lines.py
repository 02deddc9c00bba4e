"""Lines as the decoder gives them, and a worker in miniature that carries effects out."""

from hypothesis import strategies as st

from prefork_chat.chat import history, outcomes, rooms
from prefork_chat.chat.commands import COMMANDS
from prefork_chat.chat.effects import (
    Authenticate,
    Claim,
    Close,
    Effect,
    EnterRoom,
    ExitRoom,
    FindWords,
    Leave,
    ListMembers,
    ListNames,
    ListRooms,
    ReadHistory,
    Refuse,
    Reply,
    Report,
    RoomEffect,
    Route,
    SetPassword,
    TellRoom,
)
from prefork_chat.chat.session import Session
from prefork_chat.protocol.decoder import Decoder

_words = st.one_of(
    st.sampled_from([b"", b" ", b"\t", b"taken", b"Bob", b"#room", b"*", b"@7", b"quiet", b"CHAT"]),
    st.sampled_from([b"x" * 32, b"x" * 33, "ä".encode() * 20, b"y" * 300]),
    st.text(max_size=8).map(str.encode),
)
_verbs = st.one_of(st.sampled_from([*COMMANDS, b"ROOM", b"ENTR", b"HTTP", b""]), _words)
_cased_verbs = st.tuples(_verbs, st.sampled_from([bytes.upper, bytes.lower, bytes.title])).map(
    lambda verb_and_case: verb_and_case[1](verb_and_case[0])
)
_tags = st.sampled_from([b"", b"", b"@7 ", b"@a.b-c_d  ", b"@ ", b"@!! ", b"@" + b"t" * 33 + b" "])

lines = st.tuples(_tags, _cased_verbs, st.lists(_words, max_size=4)).map(
    lambda parts: parts[0] + b" ".join((parts[1], *parts[2])) + b"\n"
)
"""Raw lines with their end: mostly commands, well or badly written."""


def cleaned(*raw: bytes) -> list[bytes]:
    """Return what the decoder makes of raw lines on a connection that is past its first one."""
    decoder = Decoder()
    decoder.feed(b"PING\n")
    return decoder.feed(b"".join(raw))


def answer(session: Session, effect: Effect) -> tuple[bytes, ...]:  # noqa: C901, PLR0912 - a table
    """Return what the client is told, where the server holds one name, `taken`, and nobody else.

    There is one room, #room, which the client is in.
    """
    match effect:
        case Reply(told):
            pass
        case Refuse(line) | Close(line):
            told = (line,)
        case Claim(_, b"taken", _):
            told = (outcomes.name_in_use(effect),)
        case Claim():
            told = (outcomes.joined(session, effect),)
        case Authenticate():
            told = (outcomes.not_authenticated(effect),)
        case ReadHistory() | FindWords():
            found = history.Told(1, b"2026-11-21T16:35:32.123Z", b"taken", b"me", b"hello")
            told = tuple(history.told(effect, [found], has_more=False))
        case SetPassword():
            told = (outcomes.enrolled(session, effect.tag),)
        case Route(tag, dest, _) if dest.lower() == b"taken":
            told = (outcomes.delivered(dest, tag),)
        case Route(tag, dest, _):
            told = (outcomes.unknown_destination(dest, tag),)
        case TellRoom() | EnterRoom() | ExitRoom() | ListMembers() | ListRooms():
            told = _answer_about_rooms(effect)
        case ListNames(tag):
            told = outcomes.listed([b"taken"], tag)
        case Report(tag):
            told = outcomes.reported({b"names": 1}, tag)
        case Leave(tag):
            told = (outcomes.left(tag),)
    return told


def _answer_about_rooms(effect: RoomEffect) -> tuple[bytes, ...]:
    match effect:
        case TellRoom(room=b"#room"):
            told = tuple(rooms.told(b"#room", 1, [effect.tag]))
        case EnterRoom(b"#room", tag):
            told = (rooms.entered(b"#room", 2, tag),)
        case EnterRoom():
            told = (rooms.rooms_full(effect),)
        case ExitRoom(b"#room", tag):
            told = (rooms.exited(b"#room", 1, tag),)
        case ListMembers(b"#room", tag):
            told = rooms.members_listed(b"#room", [b"taken"], tag)
        case TellRoom() | ExitRoom() | ListMembers():
            told = (rooms.no_room(effect),)
        case ListRooms(tag):
            told = rooms.listed([(b"#room", 2, True)], tag)
    return told
