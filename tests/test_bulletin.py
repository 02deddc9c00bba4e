"""What the operator posts is kept, whole and in one piece."""

from __future__ import annotations

import stat
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import bulletin
from prefork_chat.bulletin import Posted, complaint, fit, post, read

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_posted_last_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    assert read(directory, "notice") == Posted("", 0)
    before = time.time_ns()
    post(directory, "notice", "first")
    post(directory, "notice", "Café")
    post(directory, "broadcast", "to all")
    text, said_ns = read(directory, "notice")
    assert text == "Café"
    assert abs(said_ns - before) < 10**10
    assert read(directory, "broadcast").text == "to all"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    post(directory, "notice", "")
    post(directory, "notice", "")
    assert read(directory, "notice") == Posted("", 0)


def test_what_cannot_be_shown_is_complained_about() -> None:
    assert complaint("notice", "x" * 511) == ""
    assert complaint("notice", "x" * 512) == "a notice has 511 bytes at most"
    assert complaint("notice", "é" * 256) == "a notice has 511 bytes at most"
    assert complaint("broadcast", "x" * 512) == ""
    assert "one line" in complaint("notice", "a\nb")
    assert "control" in complaint("notice", "\x1b[2J")


def test_any_text_can_be_made_to_fit() -> None:
    assert fit("broadcast", "a\tb\x1b") == "a?b?"
    assert fit("notice", "é" * 300) == "é" * 255
    assert complaint("notice", fit("notice", "\ud800x\n" * 300)) == ""


def test_a_directory_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(OSError, match=r"exists|directory"):
        bulletin.post(tmp_path / "state", "notice", "x")
