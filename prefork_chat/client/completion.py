"""What Tab offers: commands, rooms and names that go on from what stands before the cursor.

Called by the full screen and the plain mode at each Tab. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.client.places import key_of
from prefork_chat.client.typed import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterable

_TAKES_ROOM: Final = frozenset({"/join", "/who"})
_TAKES_NAME: Final = frozenset({"/msg"})
_TAKES_EITHER: Final = frozenset({"/part"})


def complete(before: str, names: Iterable[str], rooms: Iterable[str]) -> list[tuple[str, int]]:
    """Return (text, how many characters before the cursor it replaces), the likeliest first.

    `before`: what stands before the cursor; `names`: the one who spoke last first.
    """
    word = before[before.rfind(" ") + 1 :]
    words = before.split(" ")
    command = words[0].lower() if before.startswith("/") else ""
    if len(words) == 1 and command:
        found = _matching(word, COMMANDS)
        end = " "
    elif len(words) == 2 and command in _TAKES_ROOM | _TAKES_NAME | _TAKES_EITHER:
        candidates: list[str] = []
        if command not in _TAKES_ROOM:
            candidates += names
        if command not in _TAKES_NAME or word.startswith("#"):
            candidates += rooms
        found = _matching(word, candidates)
        end = " " if command in _TAKES_NAME else ""
    elif word.startswith("#"):
        found = _matching(word, rooms)
        end = " "
    elif word:
        found = _matching(word, names)
        end = ": " if len(words) == 1 else " "
    else:
        found, end = [], ""
    return [(text + end, len(word)) for text in found]


def _matching(word: str, candidates: Iterable[str]) -> list[str]:
    key = key_of(word)
    return [text for text in candidates if key_of(text).startswith(key)]
