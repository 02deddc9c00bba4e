"""What of a text may reach a terminal."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.protocol.text import clean
from tests.protocol.streams import is_clean

# How fast a machine is that runs many things at once decides nothing here.
unhurried = settings(deadline=None)


@pytest.mark.parametrize("code", range(0x110000 // 0x1000))
def test_every_character_of_unicode_is_kept_or_becomes_one_mark(code: int) -> None:
    characters = [chr(c) for c in range(code * 0x1000, (code + 1) * 0x1000)]
    text = "".join(c for c in characters if c not in "\r\n" and not 0xD800 <= ord(c) < 0xE000)
    kept = "".join(c if is_clean(c) else "?" for c in text)
    assert clean(text.encode() + b"\n") == kept.encode() + b"\n"


def test_tabs_and_the_text_of_all_languages_are_kept() -> None:
    text = "a\tb ~ äöü ßÿ «» Привет 你好 🎉 x\u200dy \u2019\u2013\u2026 שלום\n".encode()
    assert clean(text) == text


def test_escape_sequences_and_overrides_are_disarmed() -> None:
    chunk = "\x1b[2J\x07\x7f \x9b31m \u202eevil\u202c \u2066x\u2069\n".encode()
    assert clean(chunk) == b"?[2J?? ?31m ?evil? ?x?\n"


def test_a_crlf_ends_a_line_and_a_lone_cr_is_a_control() -> None:
    assert clean(b"a\r\nb\rc\r\r\n") == b"a\nb?c?\n"


@pytest.mark.parametrize(
    "chunk", [b"\xff\n", b"\xc0\x80\n", b"\xed\xa0\x80\n", b"\xe2\x80\n", b"\xf4\x90\x80\x80\n"]
)
def test_what_is_not_utf8_is_refused(chunk: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        clean(chunk)


@unhurried
@given(st.text(max_size=200))
def test_cleaning_is_done_once_and_never_makes_text_longer(text: str) -> None:
    chunk = text.encode() + b"\n"
    cleaned = clean(chunk)
    assert len(cleaned) <= len(chunk)
    assert clean(cleaned) == cleaned
