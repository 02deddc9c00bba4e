"""What is said about the history: what HIST and FIND ask for, and the wording of their answers.

Pure, like its siblings. Who asks is known by his account: that of the name that he has joined
under, or the one that he has shown by READ. Rooms are not known here: `ReadHistory.rooms` is for
the worker to fill in, and so is the refusal of a room that somebody is not in.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from prefork_chat.chat.effects import FindWords, ReadHistory, Refuse
from prefork_chat.chat.session import Session
from prefork_chat.protocol.names import fold, is_name, is_room
from prefork_chat.protocol.replies import Code, data, err, ok, shown

FIND: Final = b"FIND"
HIST: Final = b"HIST"
READ: Final = b"READ"

USUAL_LINES: Final = 20
MOST_LINES: Final = 200
"""The most that one question is answered with: about 200 KB, which a client may have unread."""

_LARGEST_ID: Final = (1 << 63) - 1


class Told(NamedTuple):
    """One message of the history, as it is told: all as on the wire."""

    id: int
    time: bytes
    sender: bytes
    recipient: bytes
    text: bytes


def ask(session: Session, rest: bytes, tag: bytes) -> ReadHistory | Refuse:
    """Return what `HIST rest` asks for."""
    bounds: dict[bytes, int] = {}
    words = []
    for word in rest.split():
        name, equals, number = word.partition(b"=")
        if not equals:
            words.append(word)
        elif name not in (b"before", b"after") or name in bounds or not _is_id(number):
            return _bad_arguments(HIST, shown(word) + b" is no bound", tag)
        else:
            bounds[name] = int(number)
    count = USUAL_LINES
    if words and words[-1].isdigit():
        count = min(int(words.pop()[:9]), MOST_LINES)
    about = words[0] if words else b""
    if len(words) > 1 or not count or len(bounds) > 1:
        return _bad_arguments(HIST, b"one name or room, one number, one bound", tag)
    if about and not (is_name(about) or is_room(about)):
        return _bad_arguments(HIST, shown(about) + b" is neither a name nor a room", tag)
    user = reader(session)
    if not user:
        return stranger(HIST, session, tag)
    before, after = bounds.get(b"before", 0), bounds.get(b"after", 0)
    return ReadHistory(user, (), fold(about), count, before, after, tag)


def seek(session: Session, rest: bytes, tag: bytes) -> FindWords | Refuse:
    """Return what `FIND rest` asks for."""
    words = rest.strip()
    before = 0
    others, _, last = words.rpartition(b" ")
    if last.startswith(b"before=") and _is_id(last[7:]):
        words, before = others.strip(), int(last[7:])
    if not words:
        return _bad_arguments(FIND, b"words are missing", tag)
    user = reader(session)
    return FindWords(user, (), words, before, tag) if user else stranger(FIND, session, tag)


def reader(session: Session) -> bytes:
    """Return the key of the account whose history a session may read, empty if there is none."""
    return session.key if session.registered else session.reader


def stranger(verb: bytes, session: Session, tag: bytes) -> Refuse:
    """Return the refusal for somebody who has no account, or has not shown it."""
    text = b"say who you are first: JOIN <username> <password>"
    if session.name:
        text = session.name + b" is no account, so nothing is kept: PASS <password> makes it one"
    return Refuse(err(verb, Code.AUTH, text, tag))


def told(
    question: ReadHistory | FindWords, lines: Sequence[Told], *, has_more: bool
) -> Sequence[bytes]:
    """Return the answer: a line for each message, oldest first, and the `OK`."""
    verb, tag = question.verb, question.tag
    answer = [
        data(verb, b"%d %b %b %b %b" % (id_, time, sender, recipient, text), tag)
        for id_, time, sender, recipient, text in lines
    ]
    return (*answer, ok(verb, b"n=%d more=%d" % (len(lines), has_more), tag))


def not_in_room(question: ReadHistory) -> bytes:
    """Return the refusal for a room that somebody is not in."""
    text = b"you are not in %b: ENTR %b, then ask again" % (question.about, question.about)
    return err(question.verb, Code.DENIED, text, question.tag)


def kept_nowhere(question: ReadHistory | FindWords) -> bytes:
    """Return the refusal of a server that keeps no history."""
    text = b"this server keeps no history"
    return err(question.verb, Code.DENIED, text, question.tag)


def failed(question: ReadHistory | FindWords) -> bytes:
    """Return what is said while the history cannot be read."""
    text = b"the history cannot be read: try again later, tell the operator"
    return err(question.verb, Code.INTERNAL, text, question.tag)


def _is_id(word: bytes) -> bool:
    return word.isdigit() and 0 < int(word[:20]) <= _LARGEST_ID


def _bad_arguments(verb: bytes, complaint: bytes, tag: bytes) -> Refuse:
    return Refuse(err(verb, Code.BADARGS, b"%b: HELP %b" % (complaint, verb), tag))
