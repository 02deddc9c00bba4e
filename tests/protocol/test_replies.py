"""The form of the server's lines."""

import pytest

from prefork_chat.protocol.decoder import HTTP, NOT_UTF8, TLS, TOO_LONG, UNENDED
from prefork_chat.protocol.replies import (
    SENTENCES,
    Code,
    data,
    err,
    fault,
    greeting,
    note,
    ok,
    shown,
)


def test_the_greeting_names_version_protocol_and_longest_line() -> None:
    assert greeting(b"0.1.0") == b"OK HELO prefork-chat/0.1.0 proto=1 max=1024"


def test_a_tag_comes_back_in_front() -> None:
    assert ok(b"CHAT", b"bob", b"7") == b"@7 OK CHAT bob"
    assert data(b"WHOS", b"bob", b"7") == b"@7 DATA WHOS bob"
    assert err(b"CHAT", Code.BUSY, b"bob", b"7") == b"@7 ERR CHAT BUSY bob"


def test_without_a_tag_the_first_word_is_the_kind() -> None:
    assert ok(b"LEAV") == b"OK LEAV"
    assert data(b"WHOS", b"bob") == b"DATA WHOS bob"
    assert note(b"server is going down") == b"NOTE server is going down"


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_sentence_that_says_what_to_do(code: Code) -> None:
    assert err(b"JOIN", code) == b"ERR JOIN %b %b" % (code.name.encode(), SENTENCES[code])
    assert b": " in SENTENCES[code]


@pytest.mark.parametrize("value", [TOO_LONG, NOT_UTF8, UNENDED, TLS, HTTP])
def test_every_fault_becomes_an_error_with_a_code_and_what_to_do(value: bytes) -> None:
    kind, verb, code, sentence = fault(value).split(b" ", 3)
    assert (kind, verb) == (b"ERR", b"*")
    assert code in set(Code)
    assert b": " in sentence


def test_an_error_repeats_names_whole_and_cuts_longer_words_between_characters() -> None:
    assert shown(b"#" + b"x" * 32) == b"#" + b"x" * 32
    assert shown(b"x" * 34) == b"x" * 33 + b"..."
    assert shown("ä".encode() * 17) == "ä".encode() * 16 + b"..."
