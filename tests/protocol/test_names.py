"""What may be a name or a tag, and which names are the same."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.protocol.names import MAX_NAME_BYTES, fold, is_name, is_room, is_tag

# How fast a machine is that runs many things at once decides nothing here.
unhurried = settings(deadline=None)


@pytest.mark.parametrize("word", [b"#a", b"#7", b"#Dev", b"#a.b-c_d", b"#" + b"x" * 32])
def test_a_room_is_a_hash_and_a_name(word: bytes) -> None:
    assert is_room(word)
    assert not is_name(word)


@pytest.mark.parametrize("word", [b"", b"#", b"dev", b"##a", b"#.a", b"# a", b"#" + b"x" * 33])
def test_other_words_are_no_rooms(word: bytes) -> None:
    assert not is_room(word)


@pytest.mark.parametrize("word", [b"a", b"7", b"Alice", b"a.b-c_d", b"0-", b"x" * MAX_NAME_BYTES])
def test_a_name_is_letters_digits_and_three_signs(word: bytes) -> None:
    assert is_name(word)


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"_a",
        b".a",
        b"-a",
        b"#room",
        b"*",
        b"@a",
        b"a b",
        b"a\tb",
        b"a\n",
        b"a!",
        "ä".encode(),
        b"x" * (MAX_NAME_BYTES + 1),
    ],
)
def test_anything_else_is_no_name(word: bytes) -> None:
    assert not is_name(word)


@pytest.mark.parametrize("word", [b"7", b"_", b".-", b"Z9", b"x" * 32])
def test_a_tag_may_begin_with_any_of_its_characters(word: bytes) -> None:
    assert is_tag(word)


@pytest.mark.parametrize("word", [b"", b"@7", b"a b", b"7\n", b"x" * 33])
def test_anything_else_is_no_tag(word: bytes) -> None:
    assert not is_tag(word)


@unhurried
@given(st.from_regex(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True))
def test_names_that_differ_in_case_alone_are_the_same(name: bytes) -> None:
    assert is_name(name)
    assert fold(name) == fold(name.upper()) == fold(name.swapcase())
    assert is_name(fold(name))
