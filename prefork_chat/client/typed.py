"""What a person types: `/` and a command, or anything else, which is said where one is talking.

Called by `conversation` with each line that was entered, and by `completion` for the names of the
commands. `//` at the beginning says a line that begins with one `/`. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.client.places import is_person, is_room

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Say:
    """Say `text` to `to`, a person or a room; empty: where one is talking now."""

    text: str
    to: str = ""


@dataclass(frozen=True, slots=True)
class TalkTo:
    """Talk to this person from now on."""

    name: str


@dataclass(frozen=True, slots=True)
class Enter:
    """Enter a room, and talk there from now on."""

    room: str


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave a room (empty: the current one), or drop the talk with a person."""

    name: str


@dataclass(frozen=True, slots=True)
class Who:
    """List who is here, or in a room."""

    room: str


@dataclass(frozen=True, slots=True)
class Rooms:
    """List the rooms."""


@dataclass(frozen=True, slots=True)
class History:
    """Show what was said before in the current talk."""

    count: int


@dataclass(frozen=True, slots=True)
class Find:
    """Search all that one may read."""

    words: str


@dataclass(frozen=True, slots=True)
class SetPassword:
    """Make the name one's own, or change its password; it is asked for where nobody sees it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """Send a line of the protocol as it is."""

    line: str


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave and end."""


@dataclass(frozen=True, slots=True)
class Help:
    """List the commands."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """It is none of the above, and `text` says why."""

    text: str


Intent: TypeAlias = (
    Say
    | TalkTo
    | Enter
    | Exit
    | Who
    | Rooms
    | History
    | Find
    | SetPassword
    | Raw
    | Quit
    | Help
    | Mistake
)

_DEFAULT_HISTORY: Final = 50
_MOST_HISTORY: Final = 1000


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is written, what it does, how the rest of its line is read."""

    usage: str
    explanation: str
    read: Callable[[str], Intent]


def parse(line: str) -> Intent | None:
    """Return what is meant by one typed line; None by an empty one."""
    if not line.strip():
        return None
    if not line.startswith("/"):
        return Say(line)
    if line.startswith("//"):
        return Say(line[1:])
    word, _, rest = line.partition(" ")
    command = COMMANDS.get(word.lower())
    if command is None:
        return Mistake(f"{word} is no command: /help lists them; to say it all the same: /{word}")
    return command.read(rest.strip())


def _read_join(rest: str) -> Intent:
    room = rest if rest.startswith("#") else f"#{rest}"
    if is_room(room):
        return Enter(room)
    return Mistake("/join #room: a room is # and 1-32 of A-Z a-z 0-9 _ . -")


def _read_msg(rest: str) -> Intent:
    name, _, text = rest.partition(" ")
    if is_room(name):
        return Say(text, name) if text.strip() else Enter(name)
    if not is_person(name):
        return Mistake("/msg name message, or /msg name to talk to somebody from now on")
    return Say(text, name) if text.strip() else TalkTo(name)


def _read_part(rest: str) -> Intent:
    if not rest or is_room(rest) or is_person(rest):
        return Exit(rest)
    return Mistake("/part #room, or /part for where you are talking")


def _read_who(rest: str) -> Intent:
    if not rest or is_room(rest):
        return Who(rest)
    return Mistake("/who for everyone, /who #room for a room")


def _read_hist(rest: str) -> Intent:
    if not rest:
        return History(_DEFAULT_HISTORY)
    if rest.isascii() and rest.isdigit() and 0 < int(rest) <= _MOST_HISTORY:
        return History(int(rest))
    return Mistake(f"/hist, or /hist and how many: 1 to {_MOST_HISTORY}")


def _read_find(rest: str) -> Intent:
    return Find(rest) if rest else Mistake("/find and the words to look for")


def _read_pass(rest: str) -> Intent:
    if rest:
        return Mistake("/pass alone: the password is asked for afterwards, where nobody sees it")
    return SetPassword()


def _read_raw(rest: str) -> Intent:
    return Raw(rest) if rest else Mistake("/raw and a line of the protocol, such as /raw STAT")


COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "/join": Command("/join #room", "enter a room and talk there", _read_join),
        "/msg": Command(
            "/msg name [message]", "say something to somebody, or talk there", _read_msg
        ),
        "/part": Command("/part [#room or name]", "leave a room, or drop a talk", _read_part),
        "/who": Command("/who [#room]", "list who is here, or in a room", _read_who),
        "/rooms": Command("/rooms", "list the rooms", lambda _: Rooms()),
        "/hist": Command("/hist [count]", "show what was said before", _read_hist),
        "/find": Command("/find words", "search all that you may read", _read_find),
        "/pass": Command("/pass", "make this name yours, or change its password", _read_pass),
        "/raw": Command("/raw line", "send a line of the protocol as it is", _read_raw),
        "/help": Command("/help", "list these commands", lambda _: Help()),
        "/quit": Command("/quit", "leave and end", lambda _: Quit()),
    }
)
"""All commands, in the order in which /help lists them."""
