"""The line that the operator is typing: keys in, text and a cursor out.

Knows the usual keys of a shell's line: arrows, Home, End, Backspace, Delete, Ctrl-A E B F K U W L,
up and down through what was entered before, Tab to complete. What it does not know it ignores. It
draws on one row, whatever the length: of a long line the part around the cursor is shown, so that
lines that come meanwhile never tear it. Pure: no terminal, no clock.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from prefork_chat.console.display import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PROMPT: Final = "operator> "
_MOST_REMEMBERED: Final = 500
_MOST_CHARACTERS: Final = 4000

# What begins with ESC: CSI or SS3 sequences, or ESC and one key (Alt).
_sequence: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[@-~]|[^\[O])")
_NAMED: Final = {
    "[A": "up",
    "OA": "up",
    "[B": "down",
    "OB": "down",
    "[C": "right",
    "OC": "right",
    "[D": "left",
    "OD": "left",
    "[H": "home",
    "OH": "home",
    "[1~": "home",
    "[F": "end",
    "OF": "end",
    "[4~": "end",
    "[3~": "delete",
}
_CONTROL: Final = {
    "\x01": "home",
    "\x02": "left",
    "\x04": "delete or end",
    "\x03": "forget",
    "\x05": "end",
    "\x06": "right",
    "\x08": "backspace",
    "\x0b": "cut behind",
    "\x0c": "redraw",
    "\x0e": "down",
    "\x10": "up",
    "\x15": "cut before",
    "\x17": "cut word",
    "\x7f": "backspace",
    "\t": "complete",
    "\r": "enter",
    "\n": "enter",
}


class Special(Enum):
    """What was pressed that is no line."""

    END = auto()
    FORGET = auto()


class Editor:
    """One line and those before it. Owner: the console.

    `complete` returns what a word may become; it gets the line up to the cursor.
    """

    def __init__(self, complete: Callable[[str], Iterable[str]] = lambda _: ()) -> None:
        """Begin with an empty line."""
        self.text = ""
        self.cursor = 0
        self._complete = complete
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unread = ""
        self._history: list[str] = []
        self._place = 0
        self._kept = ""

    def feed(self, data: bytes) -> list[str | Special]:
        """Take keys; return the lines that were entered, and what else there was to do."""
        self._unread += self._decode(data)
        done: list[str | Special] = []
        while self._unread:
            if self._unread[0] == "\x1b":
                found = _sequence.match(self._unread)
                if found is None:
                    break  # the rest of it comes
                self._unread = self._unread[found.end() :]
                self._press(_NAMED.get(found[0][1:], ""), done)
            else:
                key, self._unread = self._unread[0], self._unread[1:]
                if key in _CONTROL:
                    self._press(_CONTROL[key], done)
                else:
                    self._insert(harmless(key))
        return done

    def draw(self, columns: int) -> tuple[str, int]:
        """Return prompt and text as they fit into a row, and the column of the cursor in it."""
        room = max(columns - len(PROMPT) - 1, 1)
        start = self.cursor
        width = 0
        while start and (width := width + _width(self.text[start - 1])) <= room:
            start -= 1
        shown = ""
        width = 0
        for character in self.text[start:]:
            width += _width(character)
            if width > room:
                break
            shown += character
        column = len(PROMPT) + sum(map(_width, self.text[start : self.cursor]))
        return PROMPT + shown, column

    def _press(self, key: str, done: list[str | Special]) -> None:  # noqa: C901, PLR0912
        match key:
            case "enter":
                done.append(self._enter())
            case "forget":
                self._set("")
                done.append(Special.FORGET)
            case "delete or end" if not self.text:
                done.append(Special.END)
            case "delete" | "delete or end":
                self.text = self.text[: self.cursor] + self.text[self.cursor + 1 :]
            case "backspace" if self.cursor:
                self._cut(self.cursor - 1, self.cursor)
            case "left":
                self.cursor = max(0, self.cursor - 1)
            case "right":
                self.cursor = min(len(self.text), self.cursor + 1)
            case "home":
                self.cursor = 0
            case "end":
                self.cursor = len(self.text)
            case "cut before":
                self._cut(0, self.cursor)
            case "cut behind":
                self._cut(self.cursor, len(self.text))
            case "cut word":
                kept = self.text[: self.cursor].rstrip(" ")
                self._cut(kept.rfind(" ") + 1, self.cursor)
            case "up" | "down":
                self._remember(-1 if key == "up" else 1)
            case "complete":
                self._offer()

    def _enter(self) -> str:
        line = self.text
        if line.strip() and (not self._history or self._history[-1] != line):
            self._history.append(line)
            del self._history[:-_MOST_REMEMBERED]
        self._place = len(self._history)
        self._set("")
        return line

    def _remember(self, step: int) -> None:
        """Go to the line before or behind, among those that were entered."""
        if self._place == len(self._history):
            self._kept = self.text
        place = self._place + step
        if 0 <= place <= len(self._history):
            self._place = place
            self._set(self._history[place] if place < len(self._history) else self._kept)

    def _offer(self) -> None:
        """Complete the word before the cursor as far as there is one way to do it."""
        before = self.text[: self.cursor]
        word = before[before.rfind(" ") + 1 :]
        found = [each for each in self._complete(before) if each.lower().startswith(word.lower())]
        if not found:
            return
        common = found[0] + " " if len(found) == 1 else _beginning(found)
        if len(common) > len(word):
            self._cut(self.cursor - len(word), self.cursor)
            self._insert(common)

    def _insert(self, text: str) -> None:
        if len(self.text) + len(text) <= _MOST_CHARACTERS:
            self.text = self.text[: self.cursor] + text + self.text[self.cursor :]
            self.cursor += len(text)

    def _cut(self, start: int, end: int) -> None:
        self.text = self.text[:start] + self.text[end:]
        self.cursor = start

    def _set(self, text: str) -> None:
        self.text = text
        self.cursor = len(text)


def _beginning(words: Sequence[str]) -> str:
    """Return how all of the words begin."""
    first, last = min(words), max(words)
    size = 0
    while size < len(first) and first[size] == last[size]:
        size += 1
    return first[:size]


def _width(character: str) -> int:
    """Return how many columns a character takes on a terminal."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
