"""Datagrams between loops: what is packed is what is read, and a merge loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.protocol import envelope
from prefork_chat.protocol.envelope import Origin, RoomBatch

CLEAN = st.binary(min_size=1, max_size=80).map(
    lambda raw: bytes(byte if byte >= 0x20 or byte == 0x09 else 0x3F for byte in raw)
)
NAMES = st.from_regex(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True)


def an_origin(*, is_quiet: bool = False) -> Origin:
    return Origin(1, 2, 30, 4, is_quiet, False, b"Alice")


def read_back(datagram: bytes) -> tuple[int, list[list[bytes]]]:
    """Take a datagram apart as a loop does: (t_id, lines of each section)."""
    sections = datagram[1:].split(envelope.SECTION_SEPARATOR)
    return datagram[0], [section.split(b"\n") for section in sections]


@given(
    st.tuples(st.integers(0, 63), st.integers(0, 31), st.integers(0, 2**31)),
    st.tuples(st.booleans(), st.booleans()),
    NAMES,
)
def test_an_origin_survives_its_header(
    place: tuple[int, int, int], is_so: tuple[bool, bool], name: bytes
) -> None:
    origin = Origin(*place, 7, *is_so, name)
    again = Origin.parse(origin.header.removesuffix(b"\n"))
    flags = ("is_quiet", "is_registered")
    fields = ("p_id", "t_id", "slot", "generation", *flags, "name", "header", "prefix")
    assert [getattr(again, field) for field in fields] == [getattr(origin, f) for f in fields]


@given(st.lists(CLEAN, min_size=1, max_size=40))
def test_lines_come_out_as_they_went_in(lines: list[bytes]) -> None:
    header, *read = envelope.pack_messages(an_origin(), lines).split(b"\n")
    assert header.startswith(envelope.MESSAGES)
    assert read == lines


@given(st.lists(CLEAN, min_size=1, max_size=3 * envelope.RECEIPT_LINES))
def test_receipts_settle_as_much_as_was_answered_in_however_many_sections(
    lines: list[bytes],
) -> None:
    sections = envelope.pack_receipts(30, 4, len(lines), lines)
    settled, read = 0, []
    for section in sections:
        header, *part = section.split(b"\n")
        slot, generation, answered = envelope.parse_receipts(header)
        assert (slot, generation) == (30, 4)
        assert len(part) <= envelope.RECEIPT_LINES
        settled += answered
        read += part
    assert settled == len(lines)
    assert read == lines


@given(
    st.tuples(
        st.integers(1, 2**63), st.integers(0, 2**16), st.integers(1, 2**40), st.integers(1, 2**512)
    ),
    NAMES,
    st.lists(CLEAN, min_size=1, max_size=40),
)
def test_a_batch_for_a_room_comes_out_as_it_went_in(
    numbers: tuple[int, int, int, int], name: bytes, messages: list[bytes]
) -> None:
    batch, origin = RoomBatch(*numbers, b"#" + name), an_origin(is_quiet=True)
    section = envelope.pack_room_batch(batch, origin, messages)
    assert section.startswith(envelope.ROOM_BATCH)
    assert envelope.SECTION_SEPARATOR not in section
    header, _, body = section.partition(b"\n")
    read, origin_header, read_messages = envelope.parse_room_batch(header, body)
    assert read == batch
    assert Origin.parse(origin_header).header == origin.header
    assert read_messages == messages


@given(st.lists(st.tuples(st.integers(1, 2**63), st.integers(0, 2**20)), min_size=1))
def test_how_many_were_reached_by_each_batch_comes_out_as_it_went_in(
    reached: list[tuple[int, int]],
) -> None:
    section = envelope.pack_reached(reached)
    assert section.startswith(envelope.REACHED)
    assert envelope.parse_reached(section) == reached


@given(
    st.integers(0, 2**16),
    st.integers(1, 2**40),
    st.dictionaries(NAMES, st.booleans(), min_size=1),
)
def test_who_has_come_and_gone_comes_out_as_it_went_in(
    place: int, generation: int, names: dict[bytes, bool]
) -> None:
    section = envelope.pack_presence(place, generation, names)
    assert section.startswith(envelope.PRESENCE)
    header, _, body = section.partition(b"\n")
    assert envelope.parse_presence(header, body) == (place, generation, names)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"CHAT bob hi there", (b"", b"bob", b"hi there")),
        (b"@7 CHAT bob hi there", (b"7", b"bob", b"hi there")),
        (b"CHAT bob  two  spaces ", (b"", b"bob", b" two  spaces ")),
    ],
)
def test_a_routed_line_is_taken_apart_and_built(
    line: bytes, parts: tuple[bytes, bytes, bytes]
) -> None:
    assert envelope.parse_line(line) == parts
    assert envelope.pack_line(*parts) == line


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(CLEAN, min_size=1, max_size=3)), max_size=20))
def test_a_merge_keeps_every_section_and_its_order_for_each_loop(
    batches: list[tuple[int, list[bytes]]],
) -> None:
    datagrams = [
        bytes((t_id,)) + envelope.pack_messages(an_origin(), lines) for t_id, lines in batches
    ]
    merged = envelope.merge(datagrams)
    assert len(merged) == len({t_id for t_id, _ in batches})
    expected: dict[int, list[list[bytes]]] = {}
    for datagram in datagrams:
        t_id, sections = read_back(datagram)
        expected.setdefault(t_id, []).extend(sections)
    assert dict(map(read_back, merged)) == expected
