"""What one loop says to another in a turn: numbered, packed, sent once there is room."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.pairs import Pair
from prefork_chat.protocol.envelope import SECTION_BYTES, SECTION_SEPARATOR, Origin, parse_number
from prefork_chat.worker.outbox import Outbox, OwnOutbox

if TYPE_CHECKING:
    from collections.abc import Iterator

ORIGIN = Origin(0, 0, 1, 1, is_quiet=False, is_registered=False, name=b"alice")
T_ID = 1
LOOP = 5


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair.create(8192)
    yield pair
    pair.close()


def an_outbox(inlet_fd: int = -1) -> Outbox:
    return Outbox(2, T_ID, inlet_fd, [])


def parts(datagram: bytes) -> tuple[int, list[bytes]]:
    """Return the number of a datagram, which is for our loop, and its sections."""
    assert datagram[0] == T_ID
    first, *sections = datagram[1:].split(SECTION_SEPARATOR)
    loop, number = parse_number(first)
    assert loop == LOOP
    return number, sections


def receive_all(pair: Pair) -> list[bytes]:
    datagrams = []
    while True:
        try:
            datagrams.append(pair.outlet.recv(1 << 20))
        except BlockingIOError:
            return datagrams


def test_all_that_was_said_in_a_turn_leaves_in_one_datagram(pair: Pair) -> None:
    outbox = an_outbox(pair.inlet.fileno())
    outbox.lines += [b"CHAT bob 1", b"CHAT bob 2"]
    outbox.seal(ORIGIN)
    outbox.add(b"R1 1 1\nOK CHAT bob")
    composed = outbox.compose(LOOP, count(7))
    assert outbox.flush()
    assert receive_all(pair) == composed
    sections = [ORIGIN.header + b"CHAT bob 1\nCHAT bob 2", b"R1 1 1\nOK CHAT bob"]
    assert [parts(datagram) for datagram in composed] == [(7, sections)]
    assert outbox.pending_bytes == 0
    assert outbox.lines == []


def test_what_is_composed_stays_the_same_until_something_is_added() -> None:
    """A turn is recorded twice, if it has answers: its first datagrams must keep their numbers."""
    outbox, numbers = an_outbox(), count(7)
    outbox.add(b"one")
    composed = outbox.compose(LOOP, numbers)
    assert outbox.compose(LOOP, numbers) is composed
    outbox.add(b"two")
    again = outbox.compose(LOOP, numbers)
    assert [parts(datagram) for datagram in again] == [(8, [b"one", b"two"])]


@given(st.lists(st.integers(1, SECTION_BYTES + 10), min_size=1, max_size=12))
def test_a_turn_that_says_much_needs_several_datagrams_each_of_bounded_size(
    sizes: list[int],
) -> None:
    outbox = an_outbox()
    sections = [b"%02d" % n + b"x" * size for n, size in enumerate(sizes)]
    for section in sections:
        outbox.add(section)
    assert outbox.pending_bytes == sum(map(len, sections))
    opened = [parts(datagram) for datagram in outbox.compose(LOOP, count(1))]
    assert [number for number, _ in opened] == list(range(1, len(opened) + 1))
    assert [section for _, found in opened for section in found] == sections
    for _, found in opened:
        assert sum(map(len, found)) <= SECTION_BYTES or len(found) == 1


def test_a_full_pair_keeps_datagrams_back_in_order(pair: Pair) -> None:
    outbox, numbers = an_outbox(pair.inlet.fileno()), count(1)
    sent: list[bytes] = []
    while True:
        outbox.add(b"x" * 1000)
        sent += outbox.compose(LOOP, numbers)
        if not outbox.flush():
            break
    outbox.is_blocked = True  # as its owner notes
    assert list(outbox.unsent) == sent[-1:]
    assert outbox.pending_bytes == len(sent[-1])
    outbox.add(b"y" * 100)
    sent += outbox.compose(LOOP, numbers)
    assert not outbox.flush()  # and it does not overtake
    assert list(outbox.unsent) == sent[-2:]
    came = receive_all(pair)
    assert outbox.drain()
    came += receive_all(pair)
    assert came == sent
    assert [parts(datagram)[0] for datagram in came] == list(range(1, len(came) + 1))
    assert outbox.pending_bytes == 0


def test_what_a_predecessor_had_to_send_goes_before_all_else(pair: Pair) -> None:
    outbox = an_outbox(pair.inlet.fileno())
    outbox.resume(b"\x01D5 1\x1eolder")
    outbox.resume(b"\x01D5 2\x1eold")
    outbox.add(b"new")
    composed = outbox.compose(LOOP, count(100))
    assert outbox.flush()
    assert receive_all(pair) == [b"\x01D5 1\x1eolder", b"\x01D5 2\x1eold", *composed]


def test_an_outbox_says_once_that_it_has_something(pair: Pair) -> None:
    filled: list[Outbox] = []
    outbox = Outbox(2, T_ID, pair.inlet.fileno(), filled)
    for section in (b"one", b"two"):
        outbox.add(section)
    assert filled == [outbox]


def test_what_a_loop_says_to_itself_is_never_packed() -> None:
    own = OwnOutbox(0, 0)
    own.lines += [b"CHAT bob 1"]
    own.seal(ORIGIN)
    own.lines += [b"CHAT bob 2"]
    own.seal(ORIGIN)
    assert own.take() == [(ORIGIN, [b"CHAT bob 1"]), (ORIGIN, [b"CHAT bob 2"])]
    assert own.take() == []
