"""How entries look: as styled pieces of text for screens, and as plain lines for all else.

A piece is (style, text); styles are classes that `STYLES` explains, so that screens agree. Nothing
of others' goes into a style, and all text has been made harmless when it was read (`client.wire`).
"""

from __future__ import annotations

import time
import zlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat.client.entries import Entry, Kind, State
from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Piece: TypeAlias = tuple[str, str]

_COLOURS: Final = (
    "ansired",
    "ansigreen",
    "ansiyellow",
    "ansiblue",
    "ansimagenta",
    "ansicyan",
    "ansibrightred",
    "ansibrightgreen",
    "ansibrightblue",
    "ansibrightmagenta",
    "ansibrightcyan",
)

STYLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "time": "ansibrightblack",
        "room": "ansibrightblack",
        "mine": "bold",
        "mention": "bold ansiyellow",
        "found": "reverse",
        "old": "ansibrightblack",
        "remark": "ansicyan",
        "error": "ansired",
        "arrived": "ansigreen",
        "pending": "ansibrightblack",
        "failed": "bold ansired",
        "status": "reverse",
        "status.alarm": "reverse bold",
        "prompt": "bold",
        **{f"name{number}": colour for number, colour in enumerate(_COLOURS)},
    }
)
"""What each style's class means, in the words of prompt_toolkit."""

_MARKS: Final[Mapping[State, Piece]] = MappingProxyType(
    {
        State.WAITING: ("class:pending", " …"),
        State.SENT: ("class:pending", " ·"),
        State.DELIVERED: ("class:arrived", " ✓"),
        State.STORED: ("class:arrived", " ✓ stored"),
        State.FAILED: ("class:failed", " ✗"),
        State.UNSURE: ("class:failed", " ?"),
    }
)

_WORDS: Final[Mapping[State, str]] = MappingProxyType(
    {
        State.WAITING: "waiting",
        State.SENT: "sent",
        State.DELIVERED: "delivered",
        State.STORED: "stored: will be delivered",
        State.FAILED: "NOT DELIVERED",
        State.UNSURE: "MAY HAVE ARRIVED OR NOT",
    }
)


def name_style(name: str) -> str:
    """Return the style of a name: always the same for the same name."""
    return f"class:name{zlib.crc32(key_of(name).encode()) % len(_COLOURS)}"


def clock(entry: Entry) -> str:
    """Return when it was said, in local time; of what comes from the history with the date."""
    return time.strftime("%m-%d %H:%M" if entry.is_old else "%H:%M", time.localtime(entry.time))


def pieces(entry: Entry, *, with_place: bool) -> list[Piece]:
    """Return an entry as pieces, without a line end.

    `with_place`: say which room or person it belongs to, where entries of all talks are mixed.
    """
    found: list[Piece] = [("class:time", clock(entry) + " ")]
    match entry.kind:
        case Kind.REMARK:
            return [*found, ("class:remark", f"-- {entry.text}")]
        case Kind.ERROR:
            return [*found, ("class:error", f"!! {entry.text}")]
        case _:
            pass
    if with_place or entry.kind is Kind.FOUND:
        if entry.room:
            found.append(("class:room", f"[{entry.room}] "))
        elif entry.is_mine:
            found.append(("class:room", f"[to {entry.to}] "))
        else:
            found.append(("class:room", "[to you] "))
    found.append(("class:mine" if entry.is_mine else name_style(entry.sender), entry.sender))
    style = "class:mention" if entry.is_mention else "class:old" if entry.is_old else ""
    found.append((style, f": {entry.text}"))
    return found + outcome(entry)


def outcome(entry: Entry) -> list[Piece]:
    """Return what became of a message of ours, as pieces; nothing for others' messages."""
    if entry.state is None:
        return []
    style, mark = _MARKS[entry.state]
    found = [(style, mark)]
    if entry.is_repeated:
        found.append(("class:pending", " (sent again)"))
    if entry.reached is not None:
        found.append(("class:pending", f" {entry.reached}"))
    if entry.reason and entry.state in (State.FAILED, State.UNSURE):
        found.append((style, f" {entry.reason}"))
    return found


def plain(entry: Entry) -> str:
    """Return an entry as a line of plain text, without its end."""
    return "".join(text for _, text in pieces(entry, with_place=True))


def in_words(entry: Entry) -> str:
    """Return what became of a message of ours, for where it was shown before."""
    assert entry.state is not None
    reason = f" ({entry.reason})" if entry.reason else ""
    again = ", sent again" if entry.is_repeated else ""
    return f"to {entry.to}: {entry.text} -- {_WORDS[entry.state]}{again}{reason}"
