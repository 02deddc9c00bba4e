"""What the operator can type: text for everybody, or a command that begins with `/`.

Decides what a line asks for, and nothing else: pure. `Console` carries it out. Wrong usage raises
`Misused`, whose message tells how it is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.bans import BadTarget, parse_target
from prefork_chat.console.display import harmless
from prefork_chat.protocol.names import is_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.bans import Kind

MOST_BYTES: Final = 900
"""Of a text: with all that is put before it, it is a line that every client takes (1,024 bytes)."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONGEST_SECONDS: Final = 100 * 365 * 86_400
_duration: Final = re.compile(r"([0-9]{1,9})([smhdw])").fullmatch


class Misused(ValueError):  # noqa: N818 - an outcome, not an error
    """The line is no command, or not one as it should be; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Say something to everybody."""

    text: str


@dataclass(frozen=True, slots=True)
class TellOne:
    """Say something to one."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class KickOne:
    """Close the connection of one."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Forbid:
    """Ban or mute; `seconds`: None for good."""

    kind: Kind
    target: str
    seconds: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Allow:
    """End a ban or a mute."""

    kind: Kind
    target: str


@dataclass(frozen=True, slots=True)
class ListBans:
    """List bans and mutes."""


@dataclass(frozen=True, slots=True)
class ListClients:
    """List who is here."""


@dataclass(frozen=True, slots=True)
class ListRooms:
    """List the rooms."""


@dataclass(frozen=True, slots=True)
class Help:
    """List the commands."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the console; the daemon goes on."""


Listing: TypeAlias = ListBans | ListClients | ListRooms | Help
Asked: TypeAlias = Broadcast | TellOne | KickOne | Forbid | Allow | Listing | Quit


@dataclass(frozen=True, slots=True)
class Command:
    """One command: how it is written, what it is for, and what its arguments ask for."""

    usage: str
    explanation: str
    read: Callable[[str], Asked]

    @property
    def word(self) -> str:
        """Its first word, such as `/kick`."""
        return self.usage.partition(" ")[0]


def parse(line: str) -> Asked | None:
    """Return what a line asks for, None for an empty one; raises Misused.

    A text that begins with `/` is written with two of them.
    """
    line = harmless(line).strip()
    if not line:
        return None
    if not line.startswith("/"):
        return Broadcast(_text(line))
    if line.startswith("//"):
        return Broadcast(_text(line[1:]))
    word, _, rest = line.partition(" ")
    command = COMMANDS.get(word.lower())
    if command is None:
        raise Misused(f"{word} is no command: /help lists them")
    try:
        return command.read(rest.strip())
    except _Incomplete as incomplete:
        raise Misused(f"{incomplete}: {command.usage}") from None


def help_lines() -> list[str]:
    """Return what /help shows."""
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{'TEXT'.ljust(width)}  say it to everybody"]
    lines += [f"{c.usage.ljust(width)}  {c.explanation}" for c in COMMANDS.values()]
    return [*lines, "A DURATION is a number and s, m, h, d or w: 90s, 30m, 7d."]


class _Incomplete(Exception):  # noqa: N818 - made a Misused by `parse`
    """What is wrong with the arguments, without the usage."""


def _text(text: str) -> str:
    size = len(text.encode())
    if size > MOST_BYTES:
        raise Misused(f"{size} bytes are too long for a line, {MOST_BYTES} are the most")
    return text


def _name(word: str) -> str:
    if not word:
        raise _Incomplete("a name is missing")
    if not is_name(word.encode()):
        raise _Incomplete(f"{word} is no name")
    return word.lower()


def _target(word: str) -> str:
    if not word:
        raise _Incomplete("a name or an address is missing")
    try:
        return parse_target(word)
    except BadTarget as error:
        raise _Incomplete(str(error)) from error


def _seconds(word: str) -> int | None:
    """Return how long a duration is, None if the word is none."""
    found = _duration(word)
    if found is None:
        return None
    return min(int(found[1]) * _UNITS[found[2]], _LONGEST_SECONDS)


def _to(rest: str) -> Asked:
    name, _, text = rest.partition(" ")
    if not text.strip():
        raise _Incomplete("a name and a text are needed")
    return TellOne(_name(name), _text(text.strip()))


def _kick(rest: str) -> Asked:
    name, _, reason = rest.partition(" ")
    return KickOne(_name(name), _text(reason.strip()))


def _mute(rest: str) -> Asked:
    name, _, rest = rest.partition(" ")
    return Forbid("mute", _name(name), *_terms(rest, unit="m"))


def _ban(rest: str) -> Asked:
    target, _, rest = rest.partition(" ")
    return Forbid("ban", _target(target), *_terms(rest))


def _terms(rest: str, unit: str = "") -> tuple[int | None, str]:
    """Read `[duration] [reason]`; a bare number is a duration in that unit."""
    word, _, reason = rest.strip().partition(" ")
    seconds = _seconds(word + unit if word.isdigit() else word)
    if seconds is None:
        return None, _text(rest.strip())
    return seconds, _text(reason.strip())


def _alone(asked: Asked) -> Callable[[str], Asked]:
    def read(rest: str) -> Asked:
        if rest:
            raise _Incomplete("it takes no arguments")
        return asked

    return read


_TABLE: Final = (
    Command("/to NAME TEXT", "say it to one person", _to),
    Command("/kick NAME [REASON]", "close a connection; they may come again", _kick),
    Command("/mute NAME [MINUTES] [REASON]", "refuse what they say", _mute),
    Command("/unmute NAME", "let them speak again", lambda rest: Allow("mute", _name(rest))),
    Command("/ban NAME|ADDRESS [DURATION] [REASON]", "keep out a name or an address", _ban),
    Command("/unban NAME|ADDRESS", "let them in again", lambda rest: Allow("ban", _target(rest))),
    Command("/bans", "list who is banned or muted", _alone(ListBans())),
    Command("/who", "list who is here", _alone(ListClients())),
    Command("/rooms", "list the rooms", _alone(ListRooms())),
    Command("/help", "show this", _alone(Help())),
    Command("/quit", "end the console (or Ctrl-D); the daemon goes on", _alone(Quit())),
)

COMMANDS: Final = {command.word: command for command in _TABLE}
"""Every command by its first word, in the order of /help."""
