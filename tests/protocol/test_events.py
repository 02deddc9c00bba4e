"""Events and directives: what is packed is what is read, whatever people have said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.protocol import directives, envelope, events
from prefork_chat.protocol.directives import Directive, Expel, Kick, Mute, Note, Tell
from prefork_chat.protocol.events import Answered, Event, Joined, Left, Said, Taken

NAMES = st.from_regex(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True)
CLEAN = st.binary(min_size=1, max_size=80).map(
    lambda raw: bytes(byte if byte >= 0x20 or byte == 0x09 else 0x3F for byte in raw)
)
NUMBERS = st.integers(0, 2**62)
TEXTS = st.text(max_size=60).filter(lambda text: "\ud800" not in text)


@st.composite
def said(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    sender = draw(NAMES)
    messages = draw(st.lists(st.tuples(NAMES, CLEAN, st.booleans(), st.booleans()), min_size=1))
    lines, expected = [], list[Event]()
    for to, text, is_tagged, is_seen in messages:
        line = (b"@7 " if is_tagged else b"") + b"CHAT %b %b" % (to, text)
        lines.append(line if is_seen else events.without_text(line))
        expected.append(Said(sender, to, text if is_seen else None))
    return events.said(sender, lines), expected


EVENTS = st.one_of(
    said(),
    st.builds(
        lambda name, address: (events.joined(name, address), [Joined(name, address)]),
        NAMES,
        st.sampled_from([b"", b"127.0.0.1:7", b"[::1]:7"]),
    ),
    NAMES.map(lambda name: (events.left(name), [Left(name)])),
    st.builds(lambda n, c: (events.answered(n, c), [Answered(n, c)]), NUMBERS, NUMBERS),
    NUMBERS.map(lambda number: (events.taken(number), [Taken(number)])),
)


@given(NUMBERS, st.integers(0, 2048), st.lists(EVENTS, min_size=1, max_size=10))
def test_events_come_out_in_order_as_they_went_in(
    visit: int, loop: int, packed: list[tuple[bytes, list[Event]]]
) -> None:
    datagram = events.pack(visit, loop, [each for each, _ in packed])
    expected = [event for _, some in packed for event in some]
    assert events.parse(datagram) == (visit, loop, expected)
    assert sum(events.count_lines(each) for each, _ in packed) == len(expected)


def test_what_is_no_event_raises() -> None:
    with pytest.raises(ValueError, match="no event"):
        events.parse(b"E1 2\x1eX")


DIRECTIVES = st.one_of(
    st.builds(Note, TEXTS),
    st.builds(Tell, TEXTS, TEXTS),
    st.builds(Kick, TEXTS, TEXTS),
    st.builds(Expel, TEXTS, TEXTS),
    st.builds(Mute, TEXTS),
)


@given(st.integers(0, 3), NUMBERS, NUMBERS, DIRECTIVES)
def test_a_directive_survives_its_section_whatever_is_in_it(
    place: int, visit: int, number: int, directive: Directive
) -> None:
    section = directives.pack(place, visit, number, directive)
    assert envelope.SECTION_SEPARATOR not in section
    header, *body = section.split(b"\n")
    assert header.startswith(envelope.DIRECTIVE)
    assert len(body) == 1
    assert directives.parse_header(header) == (place, visit, number)
    assert directives.parse(body[0]) == directive
