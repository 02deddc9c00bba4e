"""What a slow reader is owed, and when its senders hear of it."""

from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.protocol.envelope import Origin
from prefork_chat.worker.connection import Awaited, Backlog

ORIGIN = Origin(0, 0, 1, 1, is_quiet=False, name=b"alice")


def a_receipt(number: int) -> Awaited:
    return Awaited(ORIGIN, b"%d" % number, b"bob")


def drain(backlog: Backlog, steps: list[int]) -> tuple[bytes, list[Awaited]]:
    """Let the kernel take `steps` bytes at a time, then all; return the bytes and the receipts."""
    taken, released = b"", []
    for step in [*steps, *[1 << 20] * 50]:
        if not backlog.pending_bytes:
            break
        head = bytes(backlog.head[:step])
        taken += head
        released += backlog.consume(len(head))
    return taken, released


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=10), st.data())
def test_bytes_leave_in_order_and_a_receipt_after_its_last_byte(
    chunks: list[bytes], data: st.DataObject
) -> None:
    first_taken = data.draw(st.integers(0, len(chunks[0]) - 1))
    steps = data.draw(st.lists(st.integers(1, 30), max_size=20))
    backlog = Backlog()
    for number, chunk in enumerate(chunks):
        backlog.append(chunk, first_taken if number == 0 else 0)
        backlog.await_receipt(a_receipt(number))
    total = sum(map(len, chunks)) - first_taken
    assert backlog.pending_bytes == total
    taken, released = drain(backlog, steps)
    assert taken == b"".join(chunks)[first_taken:]
    assert released == [a_receipt(number) for number in range(len(chunks))]
    assert backlog.pending_bytes == 0


def test_a_receipt_waits_for_the_last_byte_of_its_chunk() -> None:
    backlog = Backlog()
    backlog.append(b"12345")
    backlog.await_receipt(a_receipt(1))
    assert backlog.consume(4) == []
    assert backlog.consume(1) == [a_receipt(1)]


def test_of_an_abandoned_backlog_only_the_torn_chunk_is_unsure() -> None:
    backlog = Backlog()
    for number in (1, 2):
        backlog.append(b"12345")
        backlog.await_receipt(a_receipt(number))
    backlog.consume(2)
    assert backlog.abandon() == ([a_receipt(1)], [a_receipt(2)])


def test_nothing_is_unsure_when_no_byte_has_left() -> None:
    backlog = Backlog()
    backlog.append(b"12345")
    backlog.await_receipt(a_receipt(1))
    assert backlog.abandon() == ([], [a_receipt(1)])


def test_a_chunk_of_which_the_first_write_took_a_part_is_torn() -> None:
    backlog = Backlog()
    backlog.append(b"12345", taken=1)
    backlog.await_receipt(a_receipt(1))
    assert backlog.abandon() == ([a_receipt(1)], [])
