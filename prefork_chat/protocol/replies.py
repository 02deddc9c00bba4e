"""The form and the wording of every line that the server says of its own accord.

The first word tells what a line is: `OK` and `ERR` end the answer to one command, `DATA` lines come
before an `OK`, `NOTE` is the server speaking. A person with netcat reads these lines, and a program
matches their first words; so each error is `ERR`, the verb, a code for the program, and a sentence
for the person that says what to do. Each builder returns one line without its LF, and puts the tag
of the command (bytes without the `@`; empty: none) in front. Pure functions of their arguments;
they may be called from any thread.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from prefork_chat.protocol.names import MAX_NAME_BYTES

PROTOCOL_VERSION: Final = 1
"""The version of the line protocol, `proto=` in the greeting."""

MAX_LINE_BYTES: Final = 1024
"""The longest line that a client may send, in bytes with its line end, `max=` in the greeting."""

ANY_VERB: Final = b"*"
"""The verb of an error about a line in which no verb was understood."""


class Code(bytes, Enum):
    """What went wrong, in one word that programs compare. The words never change their meaning."""

    BADVERB = b"BADVERB"
    BADARGS = b"BADARGS"
    BADNAME = b"BADNAME"
    TOOLONG = b"TOOLONG"
    NOTUTF8 = b"NOTUTF8"
    NOJOIN = b"NOJOIN"
    JOINED = b"JOINED"
    INUSE = b"INUSE"
    AUTH = b"AUTH"
    PLAIN = b"PLAIN"
    WEAK = b"WEAK"
    NOUSER = b"NOUSER"
    NOROOM = b"NOROOM"
    NOTIN = b"NOTIN"
    DENIED = b"DENIED"
    RATE = b"RATE"
    BUSY = b"BUSY"
    FULL = b"FULL"
    UNSURE = b"UNSURE"
    INTERNAL = b"INTERNAL"


NAME_RULE: Final = b"use 1-32 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
"""What a person is told who wrote something that is no name."""

SENTENCES: Final[Mapping[Code, bytes]] = MappingProxyType(
    {
        Code.BADVERB: b"there is no such command: HELP lists them",
        Code.BADARGS: b"the command was not understood: HELP <verb> shows how it is written",
        Code.BADNAME: b"this is no name: " + NAME_RULE,
        Code.TOOLONG: b"a line has at most 1024 bytes, this one was dropped: send it in parts",
        Code.NOTUTF8: b"this line is not UTF-8 and was dropped: set your terminal to UTF-8",
        Code.NOJOIN: b"say who you are first: JOIN <username>",
        Code.JOINED: b"you have a name already: to change it, LEAV and connect again",
        Code.INUSE: b"somebody has this name now: JOIN with another one",
        Code.AUTH: b"the name or its password is not right: check both and try again",
        Code.PLAIN: b"others could read a password here: use an encrypted connection",
        Code.WEAK: b"this password is too easy to guess: choose a longer one",
        Code.NOUSER: b"nobody of this name is here: WHOS lists who is",
        Code.NOROOM: b"there is no such room: look at how you wrote it",
        Code.NOTIN: b"you are not in this room: ENTR <#room> first",
        Code.DENIED: b"you are not allowed to do this: ask the operator",
        Code.RATE: b"you send faster than this server allows: slow down and try again",
        Code.BUSY: b"too much is waiting there already: try again later",
        Code.FULL: b"the server is full: try again later",
        Code.UNSURE: b"it may have arrived, and it may not: ask before you send it again",
        Code.INTERNAL: b"the server failed at this, nothing was done: try again",
    }
)
"""What an error of this code says to a person when there is nothing more exact to say."""

# How much of a client's own word an error repeats: a whole name (or room), and enough of anything
# else to recognise it.
_SHOWN_BYTES = MAX_NAME_BYTES + 1


def greeting(version: bytes, *, is_seen: bool = False) -> bytes:
    """Return the first line of a connection; `version` is the daemon's own.

    `is_seen`: the operator can see what is said, and people are told so.
    """
    line = b"OK HELO prefork-chat/%b proto=%d max=%d" % (version, PROTOCOL_VERSION, MAX_LINE_BYTES)
    return line + b" operator=sees-messages" if is_seen else line


def ok(verb: bytes, fields: bytes = b"", tag: bytes = b"") -> bytes:
    """Return the success that ends the answer to one command."""
    return _line(b"OK", verb, fields, tag)


def data(verb: bytes, fields: bytes, tag: bytes = b"") -> bytes:
    """Return one of the lines that come before the `OK` of a command that lists something."""
    return _line(b"DATA", verb, fields, tag)


def err(verb: bytes, code: Code, text: bytes = b"", tag: bytes = b"") -> bytes:
    """Return the failure that ends the answer to one command, with `text` or the usual words."""
    return _line(b"ERR", verb, b"%b %b" % (code, text or SENTENCES[code]), tag)


def fault(value: bytes) -> bytes:
    """Return the failure for a line that the decoder rejected; `value` is its code and sentence."""
    return _line(b"ERR", ANY_VERB, value, b"")


def note(text: bytes) -> bytes:
    """Return a line in which the server or its operator speaks to a person."""
    return b"NOTE " + text


def shown(word: bytes) -> bytes:
    """Return the client's own `word` (UTF-8) as errors repeat it: cut when too long for a name."""
    if len(word) <= _SHOWN_BYTES:
        return word
    return word[:_SHOWN_BYTES].decode(errors="ignore").encode() + b"..."


def _line(kind: bytes, verb: bytes, fields: bytes, tag: bytes) -> bytes:
    line = b"%b %b %b" % (kind, verb, fields) if fields else b"%b %b" % (kind, verb)
    return b"@%b %b" % (tag, line) if tag else line
