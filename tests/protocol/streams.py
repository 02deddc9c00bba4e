"""Byte streams as clients send them, good and bad, and the framing rules written down once more.

`expected` is the plainest possible statement of what a decoder must make of a whole stream; it
looks at one character at a time and knows nothing of chunks.
"""

import unicodedata
from itertools import pairwise

from hypothesis import strategies as st

from prefork_chat.protocol.decoder import HTTP, NOT_UTF8, TLS, TOO_LONG, UNENDED

HTTP_METHODS = (
    b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PRI"  # as in `curl -X`
).split()

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}

_pieces = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.text(st.characters(max_codepoint=0x9F), max_size=20).map(str.encode),
    st.sampled_from(
        [
            b"\n",
            b"\n",
            b"\n",
            b"\r\n",
            b"\r\r\n",
            b"\r",
            b"JOIN alice\n",
            b"CHAT bob hi there\r\n",
            b"CHAT bob \xff\n",
            b"\x1b]0;title\x07",
            "\u202egnirts\u2066\u2019\u2013 \x85".encode(),
            b"\xe2\x80",
            b"\xc2",
            b"\x16\x03\x01",
            b"\x16",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /",
        ]
    ),
    st.integers(1015, 1030).map(lambda count: b"x" * count),
    st.integers(1015, 1030).map(lambda count: b"x" * count + b"\r\n"),
    st.integers(64500, 65540).map(lambda count: b"y" * count),
)

streams = st.lists(_pieces, max_size=12).map(b"".join)
"""Whole streams, from empty ones to ones that end their connection."""


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and the same stream as reads may return it."""
    stream = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    return stream, [stream[a:b] for a, b in pairwise(edges)]


def expected(stream: bytes) -> list[bytes]:
    """Return what a decoder must give for `stream`, however it is split."""
    results: list[bytes] = []
    is_first = True
    while stream:
        raw, end, stream = stream.partition(b"\n")
        if is_first and raw.startswith(b"\x16\x03"):
            return [*results, TLS]
        if is_first and (end or len(raw) >= 1024) and _is_http(raw[:1024]):
            return [*results, HTTP]
        if len(raw) >= 1024:
            results.append(TOO_LONG)
            if len(raw) >= 65536:
                return [*results, UNENDED]
            is_first = False
        elif end and raw.removesuffix(b"\r"):
            results.append(_cleaned(raw.removesuffix(b"\r")))
            is_first = False
    return results


def is_clean(character: str) -> bool:
    """Say whether a terminal may be shown this character."""
    if character == "\t":
        return True
    return unicodedata.category(character) != "Cc" and ord(character) not in _BIDI


def _cleaned(raw: bytes) -> bytes:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return "".join(c if is_clean(c) else "?" for c in text).encode()


def _is_http(line: bytes) -> bool:
    method, space, target = line.partition(b" ")
    if method not in HTTP_METHODS or not space:
        return False
    return target.startswith((b"/", b"*", b"http://", b"https://")) or b" HTTP/" in target
