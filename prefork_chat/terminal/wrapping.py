"""Wrapping of styled pieces to the width of a window, by the cells that characters take there.

A character of East Asian writing takes two cells, an accent none. What continues a line is set in
by as much as the name is, up to a third of the width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.utils import get_cwidth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.terminal.looks import Piece


def wrap(pieces: Sequence[Piece], width: int, indent: int) -> list[list[Piece]]:
    """Return the pieces as lines of at most `width` cells, broken between words if possible.

    `indent`: cells that all lines but the first begin with, fewer in a narrow window.
    """
    indent = min(indent, width // 3)
    lines: list[list[Piece]] = [[]]
    used = 0
    for style, text in pieces:
        for word in _words(text):
            cells = get_cwidth(word)
            if used + cells > width and cells <= width - indent and used > indent:
                lines.append([("", " " * indent)])
                used = indent
                if word == " ":
                    continue
            while used + cells > width:
                fitting = _fitting(word, width - used)
                if fitting:
                    lines[-1].append((style, word[:fitting]))
                    word = word[fitting:]  # noqa: PLW2901 - the rest of it
                    cells = get_cwidth(word)
                elif used <= indent:
                    break  # a window narrower than one character
                lines.append([("", " " * indent)])
                used = indent
            lines[-1].append((style, word))
            used += cells
    return lines


def _words(text: str) -> list[str]:
    """Split before and after each space; joined they are `text` again."""
    words = text.split(" ")
    found: list[str] = []
    for index, word in enumerate(words):
        if index:
            found.append(" ")
        if word:
            found.append(word)
    return found


def _fitting(word: str, cells: int) -> int:
    """Return how many characters of `word` fit into so many cells."""
    used = 0
    for index, character in enumerate(word):
        used += get_cwidth(character)
        if used > cells:
            return index
    return len(word)
