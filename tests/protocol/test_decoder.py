"""From a stream of bytes to clean lines: every rule of framing, and streams split at every byte."""

import copy
import gc
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefork_chat.protocol.decoder import (
    HTTP,
    MAX_UNENDED_BYTES,
    NOT_UTF8,
    TLS,
    TOO_LONG,
    UNENDED,
    Decoder,
    FatalFault,
    Fault,
)
from prefork_chat.protocol.replies import MAX_LINE_BYTES
from tests.protocol.streams import HTTP_METHODS, expected, is_clean, split_streams, streams

# How fast a machine is that runs many things at once decides nothing here.
unhurried = settings(deadline=None)

LONGEST = b"x" * (MAX_LINE_BYTES - 1)


def decode(*chunks: bytes) -> list[bytes]:
    """Return everything that a new decoder makes of these reads."""
    decoder = Decoder()
    return [line for chunk in chunks for line in decoder.feed(chunk)]


def decode_later(*chunks: bytes) -> list[bytes]:
    """As decode(), on a connection whose first line is past."""
    return decode(b"PING\n", *chunks)[1:]


def test_lines_end_in_lf_or_crlf() -> None:
    assert decode(b"JOIN a\nCHAT b hi\r\nLEAV\n") == [b"JOIN a", b"CHAT b hi", b"LEAV"]
    assert decode_later(b"JOIN a\nCHAT b hi\r\nLEAV\n") == [b"JOIN a", b"CHAT b hi", b"LEAV"]


def test_empty_lines_are_ignored() -> None:
    assert decode(b"\n\r\n\nPING\n\n\r\nPING\n") == [b"PING", b"PING"]
    assert decode_later(b"\n\nPING\n\nPING\n") == [b"PING", b"PING"]


def test_an_unfinished_line_waits_for_its_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"PING\nCHAT b h") == [b"PING"]
    assert decoder.feed(b"i\xc3") == []
    assert decoder.feed(b"\xa4\r") == []
    assert decoder.feed(b"\nPI") == ["CHAT b hiä".encode()]


def test_a_line_of_1024_bytes_with_its_end_is_accepted() -> None:
    assert decode(LONGEST + b"\n") == [LONGEST]
    assert decode_later(LONGEST + b"\n" + LONGEST + b"\n") == [LONGEST, LONGEST]
    assert decode_later(LONGEST[1:] + b"\r\n") == [LONGEST[1:]]


def test_a_longer_line_is_answered_once_and_dropped() -> None:
    for long_line in (b"x" + LONGEST + b"\n", LONGEST + b"\r\n", LONGEST * 9 + b"\n"):
        assert decode(long_line + b"PING\n") == [TOO_LONG, b"PING"]
        assert decode_later(b"PING\n" + long_line + b"PING\n") == [b"PING", TOO_LONG, b"PING"]


def test_a_line_that_is_too_long_is_answered_before_it_ends() -> None:
    decoder = Decoder()
    assert decoder.feed(LONGEST) == []
    assert decoder.feed(b"x") == [TOO_LONG]
    assert decoder.feed(LONGEST * 3) == []
    assert decoder.feed(b"x\nPING\nx" + LONGEST) == [b"PING", TOO_LONG]
    assert decoder.feed(b"\n" + LONGEST) == []
    assert decoder.feed(b"\nx" + LONGEST) == [LONGEST, TOO_LONG]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"x" + LONGEST) == [TOO_LONG]


def test_64_kib_without_a_line_end_closes_the_connection() -> None:
    decoder = Decoder()
    assert decoder.feed(b"x" * (MAX_UNENDED_BYTES - 1)) == [TOO_LONG]
    assert decoder.feed(b"x\nPING\n") == [UNENDED]
    assert decoder.is_closed
    assert decoder.feed(b"PING\n") == []


def test_one_byte_less_than_64_kib_only_loses_the_line() -> None:
    line = b"x" * (MAX_UNENDED_BYTES - 1) + b"\n"
    assert decode(line + line + b"PING\n") == [TOO_LONG, TOO_LONG, b"PING"]


def test_only_the_line_that_is_not_utf8_is_dropped() -> None:
    lines = b"CHAT a hi\nCHAT b \xff\nCHAT c \xc3\xa4\x1b\r\n"
    assert decode_later(lines) == [b"CHAT a hi", NOT_UTF8, b"CHAT c \xc3\xa4?"]


def test_a_tls_client_hello_closes_the_connection_at_its_second_byte() -> None:
    assert decode(b"\x16", b"\x03") == [TLS]
    assert decode(b"\x16\x03\x01\x02\x00\x01\nJOIN evil\n") == [TLS]


def test_a_handshake_byte_alone_is_a_control_like_any_other() -> None:
    assert decode(b"\x16", b"PING\n") == [b"?PING"]
    assert decode_later(b"\x16\x03\x01\n") == [b"???"]


@pytest.mark.parametrize("method", HTTP_METHODS)
@pytest.mark.parametrize(
    "target", [b"/ HTTP/1.1", b"/", b"* HTTP/2.0", b"http://a/", b"a:1 HTTP/1.1"]
)
def test_an_http_request_closes_the_connection(method: bytes, target: bytes) -> None:
    assert decode(method + b" " + target + b"\r\nJOIN evil\r\n") == [HTTP]


def test_a_long_http_request_cannot_smuggle_lines_in() -> None:
    target = b"/" + b"x" * 5000
    assert decode(b"POST " + target + b" HTTP/1.1\r\n\r\nJOIN evil\nCHAT bob spam\n") == [HTTP]


def test_what_comes_too_late_in_a_long_line_makes_no_request_of_it() -> None:
    line = b"GET " + b"x" * 1020 + b" HTTP/1.1\n"
    assert decode(line) == decode(line[:1024], line[1024:]) == [TOO_LONG]


def test_http_is_looked_for_in_the_first_line_only() -> None:
    assert decode(b"\r\n\nGET / HTTP/1.1\r\n") == [HTTP]
    assert decode(b"PING\nGET / HTTP/1.1\n") == [b"PING", b"GET / HTTP/1.1"]
    assert decode(b"x" + LONGEST + b"\nGET / HTTP/1.1\n") == [TOO_LONG, b"GET / HTTP/1.1"]


@pytest.mark.parametrize(
    "line", [b"CHAT bob GET / HTTP/1.1", b"get / HTTP/1.1", b"GET", b"POST it"]
)
def test_chat_about_http_is_no_request(line: bytes) -> None:
    assert decode(line + b"\n") == [line]


def test_a_client_cannot_write_a_fault() -> None:
    (line,) = decode(TOO_LONG + b"\n")
    assert line == TOO_LONG
    assert not isinstance(line, Fault)


@unhurried
@given(split_streams())
@example((b"\r\n", [b"\r", b"\n"]))
@example((LONGEST + b"\r\n", [LONGEST + b"\r", b"\n"]))
def test_results_follow_the_rules_however_the_stream_is_split(
    split: tuple[bytes, list[bytes]],
) -> None:
    stream, chunks = split
    want = expected(stream)
    results = decode(*chunks)
    assert results == want
    assert [type(result) for result in results] == [type(result) for result in want]


@unhurried
@given(split_streams())
def test_results_follow_the_rules_on_a_connection_that_is_past_its_first_line(
    split: tuple[bytes, list[bytes]],
) -> None:
    stream, chunks = split
    assert decode_later(*chunks) == expected(b"PING\n" + stream)[1:]


def test_a_stream_can_be_split_at_every_byte() -> None:
    stream = b"".join(
        (
            b"\r\n\x16JOIN al\xc3\xa4\r\n",
            b"CHAT b \x00\xe2\x80\xae\xff\n\n",
            b"@7 CHAT \xf0\x9f\x8e\x89 \xc2\x9b\r\r\n",
            LONGEST + b"\n",
            LONGEST + b"\r\n",
            b"PING\n",
        )
    )
    want = expected(stream)
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == want
    for cut in range(len(stream)):
        assert decode(stream[:cut], stream[cut:]) == want
        assert decode(stream[:cut], stream[cut : cut + 1], stream[cut + 1 :]) == want


@unhurried
@given(streams)
def test_lines_are_clean_and_short_and_a_fatal_fault_is_the_last(stream: bytes) -> None:
    decoder = Decoder()
    results = decoder.feed(stream)
    for line in results:
        assert 0 < len(line) < MAX_LINE_BYTES
        assert all(map(is_clean, line.decode()))
    assert decoder.is_closed == any(isinstance(line, FatalFault) for line in results)
    assert not any(isinstance(line, FatalFault) for line in results[:-1])


@unhurried
@given(split_streams(), st.integers(0, 12))
def test_a_copy_of_a_decoder_continues_where_it_was(
    split: tuple[bytes, list[bytes]], count: int
) -> None:
    stream, chunks = split
    decoder = Decoder()
    results = [line for chunk in chunks[:count] for line in decoder.feed(chunk)]
    decoder = copy.copy(decoder)
    results += [line for chunk in chunks[count:] for line in decoder.feed(chunk)]
    assert results == expected(stream)


@unhurried
@given(split_streams())
def test_a_decoder_never_holds_more_than_one_line(split: tuple[bytes, list[bytes]]) -> None:
    decoder = Decoder()
    for chunk in split[1]:
        decoder.feed(chunk)
        held = [item for item in gc.get_referents(decoder) if isinstance(item, bytes)]
        assert sum(map(len, held)) < MAX_LINE_BYTES


def test_an_idle_decoder_is_small() -> None:
    one, other = Decoder(), Decoder()
    one.feed(b"JOIN a\n" + LONGEST * 2 + b"\nCHAT bob hi\n")
    other.feed(b"JOIN b\r\n")
    assert sys.getsizeof(one) <= 100
    held = zip(gc.get_referents(one), gc.get_referents(other), strict=True)
    assert all(first is second for first, second in held)
