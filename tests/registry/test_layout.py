"""The layout keeps the promises of its docstring."""

from __future__ import annotations

import struct

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.layout import Layout

SIZES = [
    (1, 1, 1, 1),
    (3, 2, 5, 7),
    (1000, 7, 3, 1),
    (10_000, 2, 2, 1024),
    (20_000, 64, 32, 1024),
    (1_000_000, 64, 32, 65_536),
]


@pytest.mark.parametrize("size", SIZES)
def test_parts_begin_on_cache_lines_and_do_not_overlap(size: tuple[int, int, int, int]) -> None:
    parts = Layout(*size)
    end = layout.HEADER_BYTES
    for part in (
        parts.table,
        parts.tags,
        parts.index_slots,
        parts.slots,
        parts.positions,
        parts.memberships,
        parts.room_states,
        parts.room_tags,
        parts.room_names,
        parts.room_counts,
        parts.room_said,
        parts.endings,
        parts.registered,
        parts.penalties,
        parts.consoles,
    ):
        assert part.start % layout.LINE_BYTES == 0
        assert end <= part.start < part.stop
        end = part.stop
    assert layout.Layout(*size).total_bytes == end


@pytest.mark.parametrize("size", SIZES)
def test_index_is_a_power_of_two_and_never_over_half_full(size: tuple[int, int, int, int]) -> None:
    places = Layout(*size).places
    assert places & (places - 1) == 0
    assert 2 * size[0] <= places < 4 * size[0]


def test_fields_are_where_the_docstring_shows_them() -> None:
    assert struct.calcsize("<q q q q q q 16s q q q q q 24x") == layout.HEADER_BYTES
    assert struct.calcsize("<q q q q q q") == layout.HASH_KEY_OFFSET
    assert struct.calcsize("<q q q q q q 16s") == layout.SEQUENCE * layout.WORD_BYTES
    assert struct.calcsize("<q q q q 32s") == layout.SLOT_BYTES
    assert struct.calcsize("<q q q q") == layout.NAME_OFFSET
    assert struct.calcsize("<16q") == layout.MEMBERSHIPS_BYTES
    assert struct.calcsize("<B 39s") == layout.ROOM_NAME_BYTES > layout.LONGEST_ROOM_NAME


def test_bytes_of_an_owner_word_are_where_its_shifts_say() -> None:
    word = struct.pack("=q", 5 << layout.P_ID_SHIFT | 6 << layout.T_ID_SHIFT | 7)
    assert word[layout.P_ID_BYTE] == 5
    assert word[layout.T_ID_BYTE] == 6
    assert word[layout.LENGTH_BYTE] == 7
    assert layout.NAMING_STEP > 255 << layout.P_ID_SHIFT


@pytest.mark.parametrize(
    "size", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 257, 1), (1, 1, 257), (1, 1, 1, -1)]
)
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"registry|byte"):
        Layout(*size)
