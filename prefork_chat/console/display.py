"""How events and lists look as lines of text: pure, but for the local time of day.

Names and messages come from strangers. The daemon lets nothing through that commands a terminal;
what is shown here is made harmless once more, for a terminal believes everybody.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.protocol.events import Joined, Left, Said

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from prefork_chat.bans import Ban
    from prefork_chat.control import Client

_commands_terminal: Final = re.compile(
    "[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]"
)


def harmless(text: str) -> str:
    """Return the text with `?` for all that could command a terminal."""
    return _commands_terminal.sub("?", text)


def show_event(event: Joined | Left | Said, clock: str) -> str:
    """Return the line for an event that was heard of at that time of day."""
    match event:
        case Joined(name, address):
            where = _read(address) or "this machine"
            line = f"{_read(name)} joined from {where}"
        case Left(name):
            line = f"{_read(name)} left"
        case Said(sender, to, None):
            line = f"{_read(sender)} -> {_read(to)}"
        case Said(sender, to, bytes(text)):
            line = f"{_read(sender)} -> {_read(to)}: {_read(text)}"
    return f"{clock} {line}"


def show_loss(lines: int) -> str:
    """Return what stands where lines are missing."""
    return f"... {lines:,} {'line' if lines == 1 else 'lines'} lost"


def show_bans(bans: Iterable[Ban]) -> list[str]:
    """Return a line for each ban and mute."""
    lines = [f"{ban.kind}  {ban.target}{ban.terms}" for ban in sorted(bans, key=_target)]
    return [harmless(line) for line in lines] or ["nobody is banned or muted"]


def show_clients(clients: Sequence[Client], muted: Container[str]) -> list[str]:
    """Return a line for each client that has a name, and one that counts all.

    `muted` are folded names.
    """
    named = sorted((c for c in clients if c.name), key=lambda client: client.name.lower())
    width = max((len(client.name) for client in named), default=0)
    lines = [
        f"{client.name.ljust(width)}  {client.address or '-'}"
        f"{'  (muted)' if client.name.lower() in muted else ''}"
        for client in named
    ]
    unnamed = len(clients) - len(named)
    rest = f", and {unnamed} without a name" if unnamed else ""
    return [*lines, f"{len(named)} here{rest}"]


def show_rooms(rooms: Iterable[tuple[str, int]]) -> list[str]:
    """Return a line for each room: its name and how many members it has."""
    found = sorted(rooms, key=lambda room: room[0].lower())
    width = max((len(name) for name, _ in found), default=0)
    lines = [f"{harmless(name).ljust(width)}  {members:,}" for name, members in found]
    return lines or ["there are no rooms"]


def clock(seconds: float | None = None) -> str:
    """Return the local time of day, of now or of a time since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _read(raw: bytes) -> str:
    return harmless(raw.decode(errors="replace"))


def _target(ban: Ban) -> tuple[str, str]:
    return ban.kind, ban.target
