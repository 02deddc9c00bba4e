from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.client.wire import (
    Answer,
    Data,
    LineReader,
    Message,
    Note,
    Presence,
    Row,
    ServerLine,
    Strange,
    harmless,
    parse,
    parse_row,
    parse_time,
    split_message,
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"OK JOIN alice", Answer("", "JOIN", "", "alice")),
        (b"@7 OK CHAT bob stored", Answer("7", "CHAT", "", "bob stored")),
        (b"OK LEAV", Answer("", "LEAV", "", "")),
        (b"ERR * TOOLONG a line", Answer("", "*", "TOOLONG", "a line")),
        (b"@x ERR CHAT NOUSER bob is", Answer("x", "CHAT", "NOUSER", "bob is")),
        (b"ERR HELO FULL", Answer("", "HELO", "FULL", "")),
        (b"@1 DATA WHOS bob 3", Data("1", "WHOS", "bob 3")),
        (b"CHAT bob hi  there ", Message("", "bob", "hi  there ")),
        (b"CHAT #dev bob hi", Message("#dev", "bob", "hi")),
        (b"CHAT bob #dev", Message("", "bob", "#dev")),
        (b"NOTE server is going down", Note("server is going down")),
        (b"HERE #dev a b", Presence("#dev", True, ("a", "b"))),
        (b"GONE #dev a", Presence("#dev", False, ("a",))),
        (b"ERR", Strange("ERR")),
        (b"@7", Strange("")),
        (b"WHAT is this", Strange("WHAT is this")),
    ],
)
def test_what_the_server_says_is_understood(line: bytes, said: ServerLine) -> None:
    assert parse(line) == said


def test_only_what_was_done_is_ok() -> None:
    assert Answer("", "JOIN", "", "alice").is_ok
    assert not Answer("", "JOIN", "INUSE", "").is_ok


@given(st.binary(max_size=200))
def test_no_line_of_a_server_breaks_the_client_or_acts_on_a_terminal(line: bytes) -> None:
    parse(line)
    text = harmless(line)
    assert all(c.isprintable() or c in " \u00ad\u3000" or ord(c) > 0xA0 for c in text)
    assert "\x1b" not in text
    assert "\n" not in text


@given(st.text())
def test_harmless_text_stays_harmless(text: str) -> None:
    assert harmless(harmless(text)) == harmless(text)


def test_what_turns_the_direction_of_writing_is_marked() -> None:
    assert harmless("a\u202eb\u2028c\x9bd\te") == "a?b?c?d e"


@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b)), st.data())
def test_lines_are_the_same_however_they_come_in_pieces(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    reader = LineReader()
    got = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        got += reader.feed(stream[:size])
        stream = stream[size:]
    assert got == lines


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    reader = LineReader()
    for _ in range(40):
        reader.feed(b"x" * 65536)
    assert len(reader.feed(b"\nnext\n")[0]) < 2 << 20


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        (
            "12 2026-11-21T16:20:00Z bob #dev hi  there",
            Row(12, 1795278000.0, "bob", "#dev", "hi  there"),
        ),
        ("12 2026-11-21T16:20:00.5Z bob alice x", Row(12, 1795278000.5, "bob", "alice", "x")),
        ("12 yesterday bob alice ", Row(12, 0.0, "bob", "alice", "")),
        ("twelve 2026-11-21T16:20:00Z bob alice hi", None),
        ("12 2026-11-21T16:20:00Z bob", None),
        ("", None),
    ],
)
def test_rows_of_the_history_are_read(fields: str, row: Row | None) -> None:
    assert parse_row(fields) == row


def test_a_time_that_cannot_be_is_no_time() -> None:
    assert parse_time("2026-13-45T99:00:00Z") == 0.0


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.integers(30, 80))
def test_parts_of_a_message_fit_and_lose_nothing_but_spaces(text: str, overhead: int) -> None:
    parts = split_message(text, overhead, 100)
    assert all(len(part.encode()) <= 100 - overhead for part in parts)
    assert "".join(parts).replace(" ", "") == text.replace(" ", "") or not text.strip()


def test_a_message_is_cut_between_words() -> None:
    assert split_message("one two three four five", 0, 14) == ["one two three", "four five"]
    assert split_message("ééééé", 0, 5) == ["éé", "éé", "é"]
    assert split_message("   ", 0, 100) == []
    assert split_message("  indented", 0, 100) == ["  indented"]
