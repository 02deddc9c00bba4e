"""Screens of terminals as SVG: what `tmux capture-pane -e` says, drawn cell by cell.

`draw` takes lines with escape sequences that colour text (SGR, ECMA-48 8.3.117; others there are
none in a captured pane) and returns a picture of them that looks the same with any monospaced font:
each run of equal style is placed at its column and stretched to its width.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from prompt_toolkit.utils import get_cwidth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CELL_WIDTH: Final = 8.4
_CELL_HEIGHT: Final = 17.0
_FONT_SIZE: Final = 14
_MARGIN: Final = 12.0
_BAR_HEIGHT: Final = 28.0

_FONTS: Final = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_BACKGROUND: Final = "#1b1f27"
_FOREGROUND: Final = "#d8dee9"
_BASIC: Final = (
    *("#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"),
    *("#7f8896", "#ff7b86", "#b5e890", "#ffd78a", "#82c4ff", "#e09cf5", "#7fdbe8", "#ffffff"),
)
"""The 16 colours that a terminal chooses itself, normal and bright."""

_split = re.compile("\x1b\\[([0-9;:]*)m").split


@dataclass(frozen=True, slots=True)
class _Style:
    foreground: str = ""
    background: str = ""
    is_bold: bool = False
    is_reverse: bool = False

    @property
    def colours(self) -> tuple[str, str]:
        """Text and paper; "" for paper that is the terminal's own."""
        text = self.foreground or _FOREGROUND
        if self.is_reverse:
            return self.background or _BACKGROUND, text
        return text, self.background


@dataclass(frozen=True, slots=True)
class _Run:
    """Text of one style, from a column on."""

    column: int
    text: str
    style: _Style

    @property
    def cells(self) -> int:
        return get_cwidth(self.text)


def draw(lines: Sequence[str], columns: int, title: str) -> str:
    """Return the SVG of a terminal's window with these lines, each with its escape sequences."""
    width = columns * _CELL_WIDTH + 2 * _MARGIN
    height = len(lines) * _CELL_HEIGHT + _BAR_HEIGHT + _MARGIN
    name = escape(title)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"',
        f'width="{width:g}" height="{height:g}" font-size="{_FONT_SIZE}"',
        "font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">",
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="{_BACKGROUND}"/>',
        f'<text x="{width / 2:g}" y="19" fill="{_BASIC[8]}" text-anchor="middle">{name}</text>',
    ]
    style = _Style()
    for row, line in enumerate(lines):
        runs, style = _read(line, style)
        for run in runs:
            parts += _draw_run(run, _BAR_HEIGHT + row * _CELL_HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def _draw_run(run: _Run, top: float) -> Iterator[str]:
    text, paper = run.style.colours
    left = _MARGIN + run.column * _CELL_WIDTH
    width = run.cells * _CELL_WIDTH
    if paper:
        yield (
            f'<rect x="{left:.1f}" y="{top:g}" width="{width:.1f}" height="{_CELL_HEIGHT:g}" '
            f'fill="{paper}" shape-rendering="crispEdges"/>'
        )
    if run.text.strip():
        bold = ' font-weight="bold"' if run.style.is_bold else ""
        yield (
            f'<text x="{left:.1f}" y="{top + 13:g}" fill="{text}" textLength="{width:.1f}" '
            f'lengthAdjust="spacingAndGlyphs" xml:space="preserve"{bold}>{escape(run.text)}</text>'
        )


def _read(line: str, style: _Style) -> tuple[list[_Run], _Style]:
    """Return the line's text in runs of one style, and the style that the next line begins with."""
    runs: list[_Run] = []
    column = 0
    for index, piece in enumerate(_split(line)):
        if index % 2:
            style = _restyled(style, [int(word or 0) for word in re.split("[;:]", piece)])
        elif piece:
            runs.append(_Run(column, piece, style))
            column += runs[-1].cells
    return runs, style


def _restyled(style: _Style, codes: list[int]) -> _Style:
    """Return the style after one SGR sequence; what is not drawn (blinking …) is left out."""
    while codes:
        code = codes.pop(0)
        match code:
            case 0:
                style = _Style()
            case 1 | 22:
                style = replace(style, is_bold=code == 1)
            case 7 | 27:
                style = replace(style, is_reverse=code == 7)
            case 38 | 48:
                colour = _extended(codes)
                name = "foreground" if code == 38 else "background"
                style = replace(style, **{name: colour})  # type: ignore[arg-type]
            case _ if 30 <= code <= 37 or 90 <= code <= 97:
                style = replace(style, foreground=_BASIC[code % 10 + 8 * (code >= 90)])
            case _ if 40 <= code <= 47 or 100 <= code <= 107:
                style = replace(style, background=_BASIC[code % 10 + 8 * (code >= 100)])
            case 39:
                style = replace(style, foreground="")
            case 49:
                style = replace(style, background="")
            case _:
                pass
    return style


def _extended(codes: list[int]) -> str:
    """Take a colour of 256 (`5;n`) or of all (`2;r;g;b`) from the codes."""
    kind = codes.pop(0) if codes else 0
    if kind == 2 and len(codes) >= 3:
        red, green, blue = (codes.pop(0) for _ in range(3))
        return f"#{red:02x}{green:02x}{blue:02x}"
    if kind != 5 or not codes:
        return ""
    number = codes.pop(0)
    if number < 16:
        return _BASIC[number]
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return f"#{grey:02x}{grey:02x}{grey:02x}"
    number -= 16
    levels = (0, 95, 135, 175, 215, 255)
    return "#" + "".join(f"{levels[number // step % 6]:02x}" for step in (36, 6, 1))
