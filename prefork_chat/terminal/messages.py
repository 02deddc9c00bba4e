"""The message list of the full screen: the last lines of the current talk, or those scrolled to.

It draws only what the window shows, from the entries as they are now. While it follows, the newest
entry stands at the bottom; scrolled, the entry at the bottom stays where it is, whatever comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout.controls import UIContent, UIControl
from prompt_toolkit.utils import get_cwidth

from prefork_chat.client.entries import Entry, Kind
from prefork_chat.terminal import looks
from prefork_chat.terminal.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prompt_toolkit.formatted_text import StyleAndTextTuples

    from prefork_chat.client.talks import Talks
    from prefork_chat.terminal.looks import Piece

_REMEMBERED: Final = 2000
"""Wrapped entries kept; more than a screen shows, so that little is wrapped twice."""


class MessageList(UIControl):
    """Shows `talks.current`. `searched` is highlighted in it."""

    def __init__(self, talks: Talks) -> None:
        self._talks = talks
        self._shown: str | None = None
        self._bottom: Entry | None = None  # None: it follows
        self._wrapped: dict[tuple[object, ...], list[list[Piece]]] = {}
        self._size = (80, 24)
        self.searched = ""

    @property
    def is_following(self) -> bool:
        """Whether the newest entry is at the bottom."""
        return self._bottom is None

    def is_focusable(self) -> bool:
        """Never: the input line has the keys."""
        return False

    def create_content(self, width: int, height: int) -> UIContent:
        """Return exactly the lines that the window shows; called by the renderer."""
        self._size = (width, height)
        entries = self._talks.current.entries
        if self._shown != self._talks.current.name:
            self._shown, self._bottom = self._talks.current.name, None
        end = self._end(entries)
        lines: list[list[Piece]] = []
        while end > 0 and len(lines) < height:
            end -= 1
            lines[:0] = self._lines_of(entries[end], width)
        lines = lines[-height:]
        lines[:0] = [[] for _ in range(height - len(lines))]

        def get_line(index: int) -> StyleAndTextTuples:
            return [*lines[index]]

        return UIContent(
            get_line=get_line,
            line_count=len(lines),
            cursor_position=Point(0, max(len(lines) - 1, 0)),
            show_cursor=False,
        )

    def page_up(self) -> bool:
        """Scroll back by almost a window; False if what is here of the talk ends there."""
        width, height = self._size
        entries = self._talks.current.entries
        end, seen = self._end(entries), 0
        while end > 1 and seen < max(height - 2, 1):
            end -= 1
            seen += len(self._lines_of(entries[end], width))
        if entries:
            self._bottom = entries[end - 1]
        above = sum(
            len(self._lines_of(entry, width)) for entry in entries[max(end - height, 0) : end]
        )
        return above > height

    def page_down(self) -> None:
        """Scroll on by almost a window; at the end, follow."""
        width, height = self._size
        entries = self._talks.current.entries
        end, seen = self._end(entries), 0
        while end < len(entries) and seen < max(height - 2, 1):
            seen += len(self._lines_of(entries[end], width))
            end += 1
        self._bottom = entries[end - 1] if end < len(entries) else None

    def follow(self) -> None:
        """Show the newest entries, as they come."""
        self._bottom = None

    def search(self, text: str) -> bool:
        """Scroll to the next older message with `text` in it; False if none is here."""
        entries = self._talks.current.entries
        is_again = text == self.searched
        self.searched = text
        end = self._end(entries) - (is_again and not self.is_following)
        for index in range(end - 1, -1, -1):
            entry = entries[index]
            if entry.kind in (Kind.MESSAGE, Kind.FOUND) and _has(entry, text):
                self._bottom = entry
                return True
        return False

    def _end(self, entries: Sequence[Entry]) -> int:
        """Return the index behind the entry at the bottom."""
        if self._bottom is not None:
            for index in range(len(entries) - 1, -1, -1):
                if entries[index] is self._bottom:
                    return index + 1
            self._bottom = None
        return len(entries)

    def _lines_of(self, entry: Entry, width: int) -> list[list[Piece]]:
        key = (id(entry), entry.number, entry.state, entry.is_repeated, width, self.searched)
        lines = self._wrapped.get(key)
        if lines is None:
            if len(self._wrapped) >= _REMEMBERED:
                self._wrapped.clear()
            pieces = looks.pieces(entry, with_place=False)
            indent = sum(get_cwidth(text) for _, text in pieces[:2]) + 2 if entry.sender else 9
            if self.searched:
                pieces = _highlighted(pieces, self.searched)
            lines = self._wrapped[key] = wrap(pieces, max(width, 1), indent)
        return lines


def _has(entry: Entry, text: str) -> bool:
    return text.casefold() in f"{entry.sender}: {entry.text}".casefold()


def _highlighted(pieces: Sequence[Piece], text: str) -> list[Piece]:
    """Mark where `text` stands; only where case does not change the length of what is compared."""
    found: list[Piece] = []
    for style, words in pieces:
        lowered, wanted = words.lower(), text.lower()
        if len(lowered) != len(words) or wanted not in lowered:
            found.append((style, words))
            continue
        start = 0
        while (at := lowered.find(wanted, start)) >= 0:
            found += [(style, words[start:at]), ("class:found", words[at : at + len(wanted)])]
            start = at + len(wanted)
        found.append((style, words[start:]))
    return [piece for piece in found if piece[1]]
