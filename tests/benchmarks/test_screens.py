from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.screens import draw

SVG = "{http://www.w3.org/2000/svg}"


def texts(line: str) -> list[tuple[str, dict[str, str]]]:
    """Return the texts that are drawn for a line, with their attributes."""
    (_, *found) = ET.fromstring(draw([line], 40, "title")).iter(f"{SVG}text")
    return [(element.text or "", element.attrib) for element in found]


def test_text_stands_in_its_column_whatever_the_font() -> None:
    (_, first), (word, second) = texts("你好\x1b[1m<b> & c")
    assert word == "<b> & c"
    assert first["textLength"] == "33.6"  # four cells of 8.4
    assert float(second["x"]) - float(first["x"]) == pytest.approx(33.6)
    assert second["font-weight"] == "bold"


@pytest.mark.parametrize(
    ("code", "colour"),
    [
        ("32", "#98c379"),
        ("92", "#b5e890"),
        ("38;5;2", "#98c379"),
        ("38;5;21", "#0000ff"),
        ("38;5;255", "#eeeeee"),
        ("38;2;1;2;3", "#010203"),
        ("32;39", "#d8dee9"),
        ("32;0", "#d8dee9"),
        ("38", "#d8dee9"),
        ("7", "#1b1f27"),
        ("44;7", "#61afef"),
    ],
)
def test_colours_are_those_of_the_terminal(code: str, colour: str) -> None:
    ((_, attributes),) = texts(f"\x1b[{code}mx")
    assert attributes["fill"] == colour


def test_paper_is_drawn_where_it_is_not_the_terminals_own() -> None:
    root = ET.fromstring(draw(["\x1b[7mx\x1b[27m \x1b[100mx\x1b[49m"], 40, "title"))
    (_, *papers) = root.iter(f"{SVG}rect")
    assert [paper.attrib["fill"] for paper in papers] == ["#d8dee9", "#7f8896"]


def test_a_style_lasts_until_it_is_changed_also_in_the_next_line() -> None:
    root = ET.fromstring(draw(["\x1b[32mx", "y"], 40, "title"))
    (_, *found) = root.iter(f"{SVG}text")
    assert [element.attrib["fill"] for element in found] == ["#98c379"] * 2
