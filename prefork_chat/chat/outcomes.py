"""The answers that only the worker can give: how an effect went is told to the person who asked.

Each function words the end of one effect of `effects`, or of a connection; the worker calls it in
the loop, acceptor or clerk that deals with it. Only `joined` and `enrolled` change a session, which
is its loop's business.
Lines have no LF; a `tag` is empty when the client gave none.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from prefork_chat.chat import rooms
from prefork_chat.chat.effects import (
    Authenticate,
    Claim,
    ListMembers,
    ListNames,
    ListRooms,
    Question,
    Report,
    SetPassword,
    Vouch,
)
from prefork_chat.chat.history import READ
from prefork_chat.chat.session import Session
from prefork_chat.protocol.names import is_name
from prefork_chat.protocol.replies import ANY_VERB, NAME_RULE, Code, data, err, note, ok, shown

CHAT: Final = b"CHAT"
HELO: Final = b"HELO"
JOIN: Final = b"JOIN"
LEAV: Final = b"LEAV"
PASS: Final = b"PASS"
STAT: Final = b"STAT"
WHOS: Final = b"WHOS"

_LISTS: Final = MappingProxyType(
    {ListNames: WHOS, ListMembers: WHOS, ListRooms: rooms.ROOM, Report: STAT}
)

_DELIVERED = ok(CHAT) + b" "
_NEXT_DELIVERED = b"\n" + _DELIVERED

# Behind `ERR CHAT <CODE> <dest>`: they go on from the name that they are about.
_UNDELIVERED: Final[Mapping[Code, bytes]] = MappingProxyType(
    {
        Code.BADARGS: b"gets no message: CHAT <dest_username> <message>",
        Code.BADNAME: b"is no name: " + NAME_RULE,
        Code.DENIED: b"gets nothing: the operator has muted you",
        Code.NOJOIN: b"cannot know who you are: JOIN <username> first",
        Code.NOUSER: b"is not here: WHOS lists who is",
        Code.BUSY: b"reads too slowly, your message was not delivered: try again later",
        Code.RATE: b"gets nothing, you send faster than allowed: slow down and try again",
        Code.UNSURE: b"may have got this message or not: ask before you repeat it",
        Code.INTERNAL: b"did not get it, the server failed on the way: send it again",
    }
)


def full() -> bytes:
    """Return the only line that a connection gets when the server has no place for it."""
    return err(HELO, Code.FULL)


def going_down() -> bytes:
    """Return the line that every client gets when the server stops."""
    return note(b"server is going down")


def resumed() -> bytes:
    """Return what a client is told whose worker died with what was under way."""
    return note(b"RESUMED: commands without an answer may or may not have been carried out")


def expelled() -> bytes:
    """Return the last line of a connection whose input makes the server fail again and again."""
    text = b"your last lines make the server fail, goodbye: connect again without them"
    return err(ANY_VERB, Code.INTERNAL, text)


def operator_says(text: str) -> bytes:
    """Return the line in which the operator speaks; the form is his alone."""
    return note(b"<operator> " + text.encode())


def muted(terms: str) -> bytes:
    """Return what a client is told who is not heard any more.

    `terms`, here and below, says until when and why: see `bans.terms`.
    """
    return note(b"the operator has muted you" + terms.encode())


def heard_again() -> bytes:
    """Return what a client is told who has his voice back."""
    return note(b"the operator lets you speak again")


def kicked(terms: str) -> bytes:
    """Return the last line of a connection that the operator closes."""
    return err(ANY_VERB, Code.DENIED, b"the operator has closed this connection" + terms.encode())


def banned(terms: str) -> bytes:
    """Return the last line of a connection of somebody who is banned from now on."""
    return err(ANY_VERB, Code.DENIED, b"the operator has banned you" + terms.encode())


def not_welcome(terms: str) -> bytes:
    """Return the only line that a connection from a banned address gets."""
    return err(HELO, Code.DENIED, b"the operator has banned this address" + terms.encode())


def not_admitted(claim: Claim, terms: str) -> bytes:
    """Return the refusal of a JOIN that a ban forbids."""
    text = b"the operator has banned %b%b" % (claim.name, terms.encode())
    return err(JOIN, Code.DENIED, text, claim.tag)


def login_expired() -> bytes:
    """Return the last line of a connection that has not said in time who it is."""
    text = b"no JOIN came in time, goodbye: connect again and JOIN <username>"
    return err(ANY_VERB, Code.NOJOIN, text)


def joined(session: Session, claim: Claim, *, is_owner: bool = False) -> bytes:
    """Give the session its name, which the registry now holds, and return the `OK JOIN`.

    `is_owner`: it has shown that the account of this name is its own.
    """
    session.name = claim.name
    session.registered = is_owner
    session.key = claim.name if claim.key == claim.name else claim.key  # one object, not two
    return ok(JOIN, claim.name, claim.tag)


def name_in_use(claim: Claim) -> bytes:
    """Return the refusal of a JOIN whose name another session has."""
    return err(JOIN, Code.INUSE, claim.name + b" is taken: JOIN with another name", claim.tag)


def delivered(dest: bytes, tag: bytes) -> bytes:
    """Return the receipt: the message has been handed whole to the connection of `dest`."""
    return ok(CHAT, dest, tag)


def stored(dest: bytes, tag: bytes) -> bytes:
    """Return the receipt: `dest` is away, and the message is kept until he comes."""
    return ok(CHAT, dest + b" stored", tag)


def all_delivered(dests: Sequence[bytes]) -> bytes:
    """Return the receipts for untagged messages to `dests`, at least one, as lines joined by LF."""
    return _DELIVERED + _NEXT_DELIVERED.join(dests)


def undelivered(code: Code, dest: bytes, tag: bytes) -> bytes:
    """Return why the message for `dest` was not delivered, or for UNSURE may not have been.

    `code` is one of BADARGS BADNAME DENIED NOJOIN NOUSER BUSY RATE UNSURE INTERNAL; KeyError
    otherwise.
    """
    return err(CHAT, code, b"%b %b" % (shown(dest), _UNDELIVERED[code]), tag)


def unknown_destination(dest: bytes, tag: bytes) -> bytes:
    """Return why nobody was found under `dest`: it is no name, or a name that nobody has."""
    if not dest:
        text = b"one space goes between CHAT and the name: CHAT <dest_username> <message>"
        return err(CHAT, Code.BADARGS, text, tag)
    if dest.startswith(b"#"):
        return rooms.unknown(CHAT, dest, tag)
    return undelivered(Code.NOUSER if is_name(dest) else Code.BADNAME, dest, tag)


def listed(names: Iterable[bytes], tag: bytes) -> tuple[bytes, ...]:
    """Return the answer to WHOS: a `DATA` line for each name, and the `OK` that counts them."""
    lines = [data(WHOS, name, tag) for name in names]
    return (*lines, ok(WHOS, b"n=%d" % len(lines), tag))


def too_much_asked(effect: ListNames | ListMembers | ListRooms | Report) -> bytes:
    """Return the refusal of a list, to somebody who has not read the lists before it."""
    text = b"you have much to read already: read it, then ask again"
    return err(_LISTS[type(effect)], Code.BUSY, text, effect.tag)


def reported(figures: Mapping[bytes, int], tag: bytes) -> tuple[bytes, ...]:
    """Return the answer to STAT: a `DATA` line `name=value` for each figure, and the `OK`."""
    lines = [data(STAT, b"%b=%d" % figure, tag) for figure in figures.items()]
    return (*lines, ok(STAT, b"n=%d" % len(lines), tag))


def left(tag: bytes) -> bytes:
    """Return the last line of a session that left."""
    return ok(LEAV, tag=tag)


def enrolled(session: Session, tag: bytes) -> bytes:
    """Note that the account of the session's name is its own, and return the `OK PASS`."""
    session.registered = True
    return ok(PASS, tag=tag)


def vouched(session: Session, answer: Vouch) -> bytes:
    """Note whose history the session may read, and return the `OK READ`."""
    session.reader = answer.key
    return ok(READ, tag=answer.tag)


def too_many_questions(question: Question) -> bytes:
    """Return the refusal of a question that would have to wait behind too many others."""
    return err(question.verb, Code.BUSY, tag=question.tag)


def unsure(question: Question) -> bytes:
    """Return what is said when the answer to a question does not come."""
    text = b"the answer does not come, it may have been done or not: try again"
    return err(question.verb, Code.UNSURE, text, question.tag)


def failed(question: Question) -> bytes:
    """Return what is said when our own fault keeps a question from being answered."""
    return err(question.verb, Code.INTERNAL, tag=question.tag)


def no_accounts(question: Authenticate | SetPassword) -> bytes:
    """Return the refusal of a password, by a server that keeps none."""
    text = b"this server keeps no passwords: JOIN <username> without one"
    return err(question.verb, Code.DENIED, text, question.tag)


def plain(question: Authenticate | SetPassword) -> bytes:
    """Return the refusal of a password that came over a wire on which others could read it."""
    text = b"others can read what you send here: do not use this password again"
    return err(question.verb, Code.PLAIN, text, question.tag)


def weak(question: SetPassword, least: int) -> bytes:
    """Return the refusal of a password that is shorter than `least`, or is the name."""
    text = b"this password is too easy to guess: use %d letters or more, and not your name" % least
    return err(PASS, Code.WEAK, text, question.tag)


def not_authenticated(question: Authenticate) -> bytes:
    """Return the refusal of a JOIN; with a password it says the same whatever is wrong."""
    if question.password or question.verb != JOIN:
        return err(question.verb, Code.AUTH, tag=question.tag)
    text = question.name + b" is somebody's account: JOIN <username> <password>, or another name"
    return err(JOIN, Code.AUTH, text, question.tag)


def not_yours(question: SetPassword) -> bytes:
    """Return the refusal of a PASS for a name that somebody else has made theirs meanwhile."""
    text = question.name + b" is somebody else's account: LEAV and JOIN with another name"
    return err(PASS, Code.AUTH, text, question.tag)


def reserved(question: SetPassword) -> bytes:
    """Return the refusal of a PASS for the login name of somebody on the server's machine."""
    text = question.name + b" is a login name of this machine: JOIN it there, on the Unix socket"
    return err(PASS, Code.DENIED, text, question.tag)


def guessed_too_often(question: Authenticate | SetPassword) -> bytes:
    """Return the refusal of a password from where too many wrong ones have come."""
    text = b"too many wrong passwords from your address: wait a minute, then try again"
    return err(question.verb, Code.RATE, text, question.tag)


def changed_too_often(question: SetPassword) -> bytes:
    """Return the refusal of a password for an account that has had too many new ones."""
    text = b"the password of %b changes too often: wait a minute, then try again" % question.name
    return err(PASS, Code.RATE, text, question.tag)


def accounts_failed(question: Authenticate | SetPassword) -> bytes:
    """Return what is said while the server cannot read or write its accounts."""
    text = b"the accounts cannot be reached, nothing was done: try again later, tell the operator"
    return err(question.verb, Code.INTERNAL, text, question.tag)
