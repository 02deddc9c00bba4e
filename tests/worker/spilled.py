"""What tests of backlogs and of their files share: receipts, and how to compare what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from prefork_chat.protocol.envelope import Origin
from prefork_chat.worker.spill import Awaited, Content, Kept, load

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ORIGIN = Origin(1, 0, 7, 3, is_quiet=True, is_registered=False, name=b"alice")

FIRST = 1000
"""Where in the client's stream the bytes of these tests begin."""

Piece: TypeAlias = tuple[bytes, int, list[tuple[bytes, bytes, bytes]]]


def a_receipt(number: int) -> Awaited:
    """Return a receipt that can be told from others."""
    return Awaited(ORIGIN, b"%d" % number, b"bob")


def content_of(path: Path) -> Content:
    """Load a spill that must be there."""
    content = load(path)
    assert content is not None
    return content


def pieces(kept: Iterable[Kept]) -> list[Piece]:
    """Say what is kept in values that can be compared: an Origin is equal to itself only."""
    return [
        (data, end, [(aw.origin.header, aw.tag, aw.destination) for aw in awaited])
        for data, end, awaited in kept
    ]
