"""The line that is being typed: keys and what they do, and how it is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.console.editor import PROMPT, Editor, Special

UP, DOWN, RIGHT, LEFT = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D"


def typed(*keys: str, editor: Editor | None = None) -> Editor:
    editor = editor or Editor()
    for key in keys:
        editor.feed(key.encode())
    return editor


@pytest.mark.parametrize(
    ("keys", "text", "cursor"),
    [
        ("hello", "hello", 5),
        ("hello\x7f\x08", "hel", 3),
        ("\x7f\x7fa", "a", 1),
        (f"ac{LEFT}b", "abc", 2),
        (f"bc{LEFT}{LEFT}{LEFT}a{RIGHT}{RIGHT}{RIGHT}d", "abcd", 4),
        ("bc\x01a", "abc", 1),
        ("bc\x1b[Ha\x1b[Fd", "abcd", 4),
        ("bc\x1bOHa\x1bOFd", "abcd", 4),
        ("bc\x1b[1~a\x1b[4~d\x02\x06", "abcd", 4),
        ("abc\x01\x1b[3~\x04", "c", 0),
        ("one two three\x17\x17", "one ", 4),
        ("one two\x15x", "x", 1),
        (f"one two{LEFT}{LEFT}{LEFT}\x0b", "one ", 4),
        (f"one two{LEFT}{LEFT}{LEFT}\x15", "two", 0),
        ("a\x1b[5~\x1b[24~\x1bxb\x00", "ab?", 3),
        ("äöü€😀", "äöü€😀", 5),
        ("x\u202ey\x9bz", "x?y?z", 5),
    ],
)
def test_keys_change_the_line(keys: str, text: str, cursor: int) -> None:
    editor = typed(keys)
    assert (editor.text, editor.cursor) == (text, cursor)
    one_by_one = Editor()
    for byte in keys.encode():
        one_by_one.feed(bytes((byte,)))
    assert (one_by_one.text, one_by_one.cursor) == (text, cursor)


def test_enter_gives_the_line_and_a_paste_gives_several() -> None:
    editor = Editor()
    assert editor.feed(b"one\rtwo\nthr") == ["one", "two"]
    assert editor.feed(b"ee\r") == ["three"]
    assert editor.text == ""


def test_ctrl_d_ends_on_an_empty_line_only_and_ctrl_c_forgets_the_line() -> None:
    editor = typed("abc")
    assert editor.feed(b"\x01\x04") == []
    assert editor.text == "bc"
    assert editor.feed(b"\x03") == [Special.FORGET]
    assert editor.text == ""
    assert editor.feed(b"\x04") == [Special.END]


def test_what_was_entered_comes_back_and_what_was_begun_is_kept() -> None:
    editor = typed("one\r", "two\r", "two\r", "  \r", "begun")
    seen = []
    for key in (UP, UP, UP, DOWN, DOWN, DOWN):
        typed(key, editor=editor)
        seen.append(editor.text)
    assert seen == ["two", "one", "one", "two", "begun", "begun"]
    typed("\x10\x10", editor=editor)
    assert editor.text == "one"
    assert editor.feed(b"!\r") == ["one!"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/k", "/kick "),
        ("/un", "/un"),
        ("/unb", "/unban "),
        ("/kick AL", "/kick AL"),
        ("/kick ali", "/kick alice "),
        ("/kick x", "/kick x"),
        ("/kick ", "/kick "),
    ],
)
def test_tab_completes_as_far_as_there_is_one_way(before: str, after: str) -> None:
    def complete(line: str) -> list[str]:
        if " " in line:
            return ["alice", "albert", "bob"]
        return ["/kick", "/unban", "/unmute"]

    editor = typed(before, "\t", editor=Editor(complete))
    assert editor.text == after


@given(st.text(max_size=200), st.integers(0, 200), st.integers(12, 80))
def test_it_is_drawn_on_one_row_with_the_cursor_in_it(text: str, left: int, columns: int) -> None:
    editor = typed(text.replace("\x1b", ""), *[LEFT] * left)
    shown, column = editor.draw(columns)
    assert shown.startswith(PROMPT)
    assert len(PROMPT) <= column < columns
    assert "\n" not in shown


def test_of_a_long_line_the_part_at_the_cursor_is_shown() -> None:
    editor = typed("0123456789" * 3)
    assert editor.draw(len(PROMPT) + 11) == (PROMPT + "0123456789", len(PROMPT) + 10)
    typed("\x01", editor=editor)
    assert editor.draw(len(PROMPT) + 11) == (PROMPT + "0123456789", len(PROMPT))


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert typed("日本").draw(80)[1] == len(PROMPT) + 4
    assert typed("e\u0301").draw(80)[1] == len(PROMPT) + 1


def test_a_line_has_an_end() -> None:
    assert len(typed("x" * 5000).text) == 4000
