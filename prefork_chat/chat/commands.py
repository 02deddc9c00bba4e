"""The commands: what each verb is for, when it is allowed, how it is written, what it asks for.

A loop calls `execute` with every line that its own short cut for `CHAT` did not take; the two
agree, however a line is spelled. One table holds all verbs, and guards are checked in one place.
Everything is decided from the session and the line alone, and only the session is ever changed, in
the thread of its owner. Nothing that a client writes raises.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final

from prefork_chat.chat import history
from prefork_chat.chat.effects import (
    Authenticate,
    Claim,
    Close,
    Effect,
    EnterRoom,
    ExitRoom,
    Identify,
    Leave,
    ListMembers,
    ListNames,
    ListRooms,
    Refuse,
    Reply,
    Report,
    Route,
    SetPassword,
    TellRoom,
)
from prefork_chat.chat.history import FIND, HIST, READ
from prefork_chat.chat.outcomes import (
    CHAT,
    HELO,
    JOIN,
    LEAV,
    PASS,
    STAT,
    WHOS,
    undelivered,
    unknown_destination,
)
from prefork_chat.chat.rooms import ENTR, EXIT, ROOM, unknown
from prefork_chat.chat.session import Session
from prefork_chat.protocol import replies
from prefork_chat.protocol.decoder import FatalFault, Fault
from prefork_chat.protocol.names import fold, is_name, is_room, is_tag
from prefork_chat.protocol.replies import ANY_VERB, NAME_RULE, Code, data, err, ok, shown

HELP: Final = b"HELP"
PING: Final = b"PING"

_EXTRAS: Final = frozenset((b"quiet", b"time", b"ids", b"pres"))


class Guard(Enum):
    """When a command is allowed."""

    ALWAYS = auto()
    JOINED = auto()
    NOT_JOINED = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """One verb: `usage` and `explanation` are what HELP shows, `act` does what is asked for.

    `act` gets the session, what follows the verb and its space, and the tag.
    """

    verb: bytes
    guard: Guard
    usage: bytes
    explanation: tuple[bytes, ...]
    act: Callable[[Session, bytes, bytes], Effect]


def execute(session: Session, line: bytes) -> Effect:
    """Return what `line`, one result of the decoder, asks for; a Fault asks for its own refusal.

    A line is `[@<tag> ]<verb>[ <arguments>]`, the verb in any case; spaces before it are ignored.
    """
    if isinstance(line, Fault):
        refusal = replies.fault(line)
        return Close(refusal) if isinstance(line, FatalFault) else Refuse(refusal)
    tag = b""
    line = line.lstrip(b" ")
    if line.startswith(b"@"):
        word, _, line = line.partition(b" ")
        tag = word[1:]
        if not is_tag(tag):
            text = b"%b is no tag: a tag is @ and 1-32 of A-Z a-z 0-9 _ . -" % shown(word)
            return Refuse(err(ANY_VERB, Code.BADARGS, text))
        line = line.lstrip(b" ")
    verb, _, rest = line.partition(b" ")
    command = COMMANDS.get(verb.upper())
    if command is None:
        return _unknown_verb(verb, tag)
    if command.guard is Guard.NOT_JOINED and session.name:
        return _joined_already(session, command, tag)
    if command.guard is Guard.JOINED and not session.name:
        return _not_joined(command, rest, tag)
    return command.act(session, rest, tag)


def _unknown_verb(verb: bytes, tag: bytes) -> Refuse:
    if not verb:
        text = b"a line begins with a command: HELP lists them"
    else:
        text = shown(verb) + b" is no command: HELP lists them; to talk: CHAT <name> <message>"
    return Refuse(err(ANY_VERB, Code.BADVERB, text, tag))


def _joined_already(session: Session, command: Command, tag: bytes) -> Refuse:
    text = b"you are %b already: to change your name, LEAV and connect again" % session.name
    return Refuse(err(command.verb, Code.JOINED, text, tag))


def _not_joined(command: Command, rest: bytes, tag: bytes) -> Refuse:
    dest = rest.partition(b" ")[0]
    if command.verb == CHAT and dest:
        return Refuse(undelivered(Code.NOJOIN, dest, tag))
    return Refuse(err(command.verb, Code.NOJOIN, tag=tag))


def _bad_arguments(verb: bytes, tag: bytes, complaint: bytes) -> Refuse:
    text = b"%b: %b" % (complaint, COMMANDS[verb].usage)
    return Refuse(err(verb, Code.BADARGS, text, tag))


def _join(_session: Session, rest: bytes, tag: bytes) -> Effect:
    name, _, password = rest.strip().partition(b" ")
    if not name:
        return _bad_arguments(JOIN, tag, b"a name is missing")
    if not is_name(name):
        text = b"%b is no name: %b" % (shown(name), NAME_RULE)
        return Refuse(err(JOIN, Code.BADNAME, text, tag))
    if password:
        return Authenticate(name, fold(name), password.strip(), tag)
    return Claim(name, fold(name), tag)


def _pass(session: Session, rest: bytes, tag: bytes) -> Effect:
    password = rest.strip()
    if not password:
        return _bad_arguments(PASS, tag, b"a password is missing")
    return SetPassword(session.name, session.key, session.registered, password, tag)


def _read(_session: Session, rest: bytes, tag: bytes) -> Effect:
    name, _, password = rest.strip().partition(b" ")
    if not is_name(name):
        return _bad_arguments(READ, tag, b"a name is missing")
    return Identify(name, fold(name), password.strip(), tag)


def _chat(session: Session, rest: bytes, tag: bytes) -> Effect:
    dest, _, message = rest.partition(b" ")
    if message and session.muted:
        return Refuse(undelivered(Code.DENIED, dest, tag))
    if message:
        if is_room(dest):
            return TellRoom(tag, dest, message)
        return (
            Route(tag, dest, message) if is_name(dest) else Refuse(unknown_destination(dest, tag))
        )
    if dest:
        return Refuse(undelivered(Code.BADARGS, dest, tag))
    return _bad_arguments(CHAT, tag, b"a name and a message are missing")


def _leav(_session: Session, rest: bytes, tag: bytes) -> Effect:
    if rest.strip():
        return _bad_arguments(LEAV, tag, b"it takes no arguments")
    return Leave(tag)


def _whos(_session: Session, rest: bytes, tag: bytes) -> Effect:
    words = rest.split()
    if not words:
        return ListNames(tag)
    if len(words) > 1 or not words[0].startswith(b"#"):
        return _bad_arguments(WHOS, tag, b"it takes one room, or nothing")
    if not is_room(words[0]):
        return Refuse(unknown(WHOS, words[0], tag))
    return ListMembers(words[0], tag)


def _entr(_session: Session, rest: bytes, tag: bytes) -> Effect:
    room = _one_room(ENTR, rest, tag)
    return EnterRoom(room, tag) if isinstance(room, bytes) else room


def _exit(_session: Session, rest: bytes, tag: bytes) -> Effect:
    room = _one_room(EXIT, rest, tag)
    return ExitRoom(room, tag) if isinstance(room, bytes) else room


def _one_room(verb: bytes, rest: bytes, tag: bytes) -> bytes | Refuse:
    """Return the room that the arguments of `verb` are, or why they are none."""
    words = rest.split()
    if not words:
        return _bad_arguments(verb, tag, b"a room is missing")
    if len(words) > 1:
        return _bad_arguments(verb, tag, b"one room at a time")
    return words[0] if is_room(words[0]) else Refuse(unknown(verb, words[0], tag))


def _room(_session: Session, rest: bytes, tag: bytes) -> Effect:
    if rest.strip():
        return _bad_arguments(ROOM, tag, b"it takes no arguments")
    return ListRooms(tag)


def _helo(session: Session, rest: bytes, tag: bytes) -> Effect:
    words = rest.lower().split()
    for word in words:
        if word not in _EXTRAS:
            return _bad_arguments(HELO, tag, b"%b is no extra" % shown(word))
    if b"quiet" in words:
        session.quiet = True
    if b"pres" in words:
        session.presence = True
    switched_on = ((b"quiet", session.quiet), (b"pres", session.presence))
    listed = b" ".join(extra for extra, is_on in switched_on if is_on)
    return Reply((ok(HELO, listed, tag),))


def _ping(_session: Session, rest: bytes, tag: bytes) -> Effect:
    words = rest.split()
    if len(words) > 1:
        return _bad_arguments(PING, tag, b"a token is one word")
    return Reply((ok(PING, b"".join(words), tag),))


def _help(_session: Session, rest: bytes, tag: bytes) -> Effect:
    words = rest.upper().split()
    if len(words) > 1:
        return _bad_arguments(HELP, tag, b"one command at a time")
    if not words:
        lines = [b"%b - %b" % (c.usage, c.explanation[0]) for c in COMMANDS.values()]
    elif words[0] in COMMANDS:
        command = COMMANDS[words[0]]
        lines = [command.usage, *command.explanation]
    else:
        text = shown(rest.strip()) + b" is no command: HELP alone lists them"
        return Refuse(err(HELP, Code.BADVERB, text, tag))
    answer = tuple(data(HELP, line, tag) for line in lines)
    return Reply((*answer, ok(HELP, tag=tag)))


def _stat(_session: Session, rest: bytes, tag: bytes) -> Effect:
    if rest.strip():
        return _bad_arguments(STAT, tag, b"it takes no arguments")
    return Report(tag)


_TABLE: Final = (
    Command(
        JOIN,
        Guard.NOT_JOINED,
        b"JOIN <username> [password]",
        (
            b"take a name, under which others reach you",
            b"A name is 1-32 of A-Z a-z 0-9 _ . - and begins with a letter or digit.",
            b"Bob and bob are the same name; others see it as you typed it.",
            b"A name that is somebody's account needs its password; PASS makes one yours.",
            b"On the server's Unix socket your own login name needs no password.",
        ),
        _join,
    ),
    Command(
        PASS,
        Guard.JOINED,
        b"PASS <password>",
        (
            b"make your name an account of yours, or change its password",
            b"From then on nobody can JOIN under it without the password.",
            b"A password may have spaces inside. Where others could read it, it is refused.",
        ),
        _pass,
    ),
    Command(
        CHAT,
        Guard.JOINED,
        b"CHAT <dest_username> <message>",
        (
            b"send a message to one person, or to a room: CHAT #room <message>",
            b"Everything behind the name and one space is the message.",
            b"OK CHAT: it was handed to their connection. ERR CHAT: it was not, and why.",
            b"What you get looks like this: CHAT <from> <message>",
            b"To a room that you are in: OK CHAT #room n=<how many others got it>.",
            b"What you get there looks like this: CHAT #room <from> <message>",
        ),
        _chat,
    ),
    Command(
        LEAV,
        Guard.ALWAYS,
        b"LEAV",
        (b"leave: your name is free again and the connection closes",),
        _leav,
    ),
    Command(
        b"QUIT",
        Guard.ALWAYS,
        b"QUIT",
        (b"the same as LEAV, and answered as LEAV",),
        _leav,
    ),
    Command(
        ENTR,
        Guard.JOINED,
        b"ENTR #room",
        (
            b"enter a room; who enters first opens it",
            b"A room is # and a name as people have: #dev and #Dev are the same room.",
            b"It is there as long as somebody is in it.",
        ),
        _entr,
    ),
    Command(EXIT, Guard.JOINED, b"EXIT #room", (b"leave a room, and stay on the server",), _exit),
    Command(
        ROOM,
        Guard.ALWAYS,
        b"ROOM",
        (b"list the rooms, how many are in each, and which you are in",),
        _room,
    ),
    Command(
        WHOS,
        Guard.ALWAYS,
        b"WHOS [#room]",
        (b"list who is here, or who is in a room",),
        _whos,
    ),
    Command(
        HELO,
        Guard.ALWAYS,
        b"HELO [quiet] [time] [ids] [pres]",
        (
            b"switch extras on, and list those that are on",
            b"quiet: no OK CHAT for your messages; errors still come.",
            b"pres: HERE #room <names>, GONE #room <names>: who comes to your rooms and who goes.",
            b"time, ids: understood, but not offered by this server.",
        ),
        _helo,
    ),
    Command(
        HIST,
        Guard.ALWAYS,
        b"HIST [username|#room] [count] [before=<id>]",
        (
            b"show what you and others said to each other, or was said in a room",
            b"Each message: DATA HIST <id> <time> <from> <to> <text>; more=1: there is more.",
            b"Without a name: all your messages, and those of the rooms that you are in.",
            b"before=<id>: what came before that message; after=<id>: what came after it.",
            b"It is kept for accounts (PASS); ~name is a guest of that name.",
        ),
        history.ask,
    ),
    Command(
        FIND,
        Guard.ALWAYS,
        b"FIND <words> [before=<id>]",
        (
            b"find messages that have all these words, the newest 20",
            b"In your own messages, and in those of the rooms that you are in.",
        ),
        history.seek,
    ),
    Command(
        READ,
        Guard.NOT_JOINED,
        b"READ <username> [password]",
        (
            b"show that an account is yours, to use HIST and FIND without joining",
            b"Nobody sees you, and what waits for you goes on waiting.",
            b"HIST #room shows any room then, unseen.",
        ),
        _read,
    ),
    Command(
        PING,
        Guard.ALWAYS,
        b"PING [token]",
        (b"ask whether the server is there; it sends your token back",),
        _ping,
    ),
    Command(HELP, Guard.ALWAYS, b"HELP [verb]", (b"list the commands, or explain one",), _help),
    Command(STAT, Guard.ALWAYS, b"STAT", (b"show how the server is doing",), _stat),
)

COMMANDS: Final[Mapping[bytes, Command]] = MappingProxyType({c.verb: c for c in _TABLE})
"""Every verb that this server understands, in the order in which HELP lists them."""
