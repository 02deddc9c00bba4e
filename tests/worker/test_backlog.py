"""What a slow reader is owed, and when its senders hear of it; also from a predecessor."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from prefork_chat import log
from prefork_chat.worker.backlog import SLACK_BYTES, Backlog
from prefork_chat.worker.spill import Awaited, Kept, Spill
from tests.worker.spilled import FIRST, a_receipt, content_of, pieces

if TYPE_CHECKING:
    from pathlib import Path


def a_backlog(*chunks: bytes, taken: int = 0, spill: Spill | None = None) -> Backlog:
    """Make one of several flushes, each with a receipt, its number; of the first some is taken."""
    backlog = Backlog(spill)
    end = FIRST
    for number, chunk in enumerate(chunks):
        end += len(chunk)
        backlog.append(chunk, taken if number == 0 else 0, end)
        backlog.await_receipt(a_receipt(number))
    return backlog


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


CHUNKS = st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=10)


@given(CHUNKS, st.data())
def test_bytes_leave_in_order_and_a_receipt_after_its_last_byte(
    chunks: list[bytes], data: st.DataObject
) -> None:
    first_taken = data.draw(st.integers(0, len(chunks[0]) - 1))
    steps = data.draw(st.lists(st.integers(1, 30), max_size=20))
    backlog = a_backlog(*chunks, taken=first_taken)
    whole = b"".join(chunks)
    assert backlog.pending_bytes == len(whole) - first_taken
    assert (backlog.start, backlog.end) == (FIRST + first_taken, FIRST + len(whole))
    taken, released = drain(backlog, steps)
    assert taken == whole[first_taken:]
    assert released == [a_receipt(number) for number in range(len(chunks))]
    assert backlog.pending_bytes == 0
    assert backlog.start == backlog.end == FIRST + len(whole)


def test_a_receipt_waits_for_the_last_byte_of_its_chunk() -> None:
    backlog = a_backlog(b"12345")
    assert backlog.consume(4) == []
    assert backlog.consume(1) == [a_receipt(0)]


def test_of_an_abandoned_backlog_only_the_torn_chunk_is_unsure() -> None:
    backlog = a_backlog(b"12345", b"12345")
    backlog.consume(2)
    assert backlog.abandon() == ([a_receipt(0)], [a_receipt(1)])
    assert backlog.pending_bytes == 0


def test_nothing_is_unsure_when_no_byte_has_left() -> None:
    backlog = a_backlog(b"12345")
    assert backlog.abandon() == ([], [a_receipt(0)])


def test_a_chunk_after_one_that_has_left_whole_is_not_torn() -> None:
    backlog = a_backlog(b"12345", b"12345")
    backlog.consume(5)
    assert backlog.abandon() == ([], [a_receipt(1)])


def test_a_chunk_of_which_the_first_write_took_a_part_is_torn() -> None:
    backlog = a_backlog(b"12345", taken=1)
    assert backlog.abandon() == ([a_receipt(0)], [])


@given(CHUNKS)
def test_a_successor_goes_on_wherever_the_kernel_stopped(chunks: list[bytes]) -> None:
    """At every byte; and answers for what had not been answered, and for nothing else."""
    whole = b"".join(chunks)
    ends = [FIRST + len(b"".join(chunks[: n + 1])) for n in range(len(chunks))]
    kept = [
        Kept(chunk, end, [a_receipt(n)])
        for n, (chunk, end) in enumerate(zip(chunks, ends, strict=True))
    ]
    for taken in range(FIRST, ends[-1] + 1):
        for answered in {FIRST, *ends}:
            backlog = Backlog.restore(kept, taken, answered)
            assert backlog.pending_bytes == ends[-1] - taken
            assert backlog.is_torn == (taken != FIRST and taken not in ends)
            if backlog.pending_bytes:
                assert (backlog.start, backlog.end) == (taken, ends[-1])
            owed = [a_receipt(n) for n, end in enumerate(ends) if end > max(taken, answered)]
            assert drain(backlog, [1] * 5) == (whole[taken - FIRST :], owed)


def test_what_is_kept_in_the_file_is_what_is_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    backlog = a_backlog(b"12345", b"678", taken=2, spill=Spill.create(path, FIRST + 2))
    content = content_of(path)
    expected = [
        Kept(b"345", FIRST + 5, [a_receipt(0)]),
        Kept(b"678", FIRST + 8, [a_receipt(1)]),
    ]
    assert pieces(content.kept) == pieces(expected)
    assert drain(backlog, []) == (b"345678", [a_receipt(0), a_receipt(1)])


def test_what_was_kept_in_memory_only_can_be_put_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    path.write_bytes(b"what an older one left")
    backlog = a_backlog(b"12345", b"678", taken=2)
    backlog.consume(1)
    backlog.persist(path)
    content = content_of(path)
    assert (content.answered, content.taken) == (FIRST + 3, FIRST + 3)
    expected = [
        Kept(b"45", FIRST + 5, [a_receipt(0)]),
        Kept(b"678", FIRST + 8, [a_receipt(1)]),
    ]
    assert pieces(content.kept) == pieces(expected)
    backlog.append(b"9", 0, FIRST + 9)  # it goes on in the file
    content = content_of(path)
    assert content.kept[-1] == Kept(b"9", FIRST + 9, [])
    assert sorted(tmp_path.iterdir()) == [path]


class FullDisk(Spill):
    """Takes nothing more."""

    def append(self, data: bytes) -> None:  # noqa: ARG002
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_client_is_served_on_from_memory_when_the_disk_is_full(
    tmp_path: Path,
) -> None:
    path = tmp_path / "1.1"
    with capture_logs() as lines:
        backlog = a_backlog(b"12345", spill=FullDisk.create(path, FIRST))
    assert backlog.spill is None
    assert not path.exists(), "half of a stream is worse than nothing"
    assert drain(backlog, []) == (b"12345", [a_receipt(0)])
    assert [line["event"] for line in lines] == [log.BACKLOG_UNPROTECTED]


def test_the_spill_of_a_reader_who_never_catches_up_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    backlog = a_backlog(spill=Spill.create(path, FIRST))
    chunk = b"x" * 100_000
    largest = 0
    for number in range(100):
        backlog.append(chunk, 0, FIRST + (number + 1) * len(chunk))
        backlog.await_receipt(a_receipt(number))
        if number:
            assert backlog.consume(len(chunk)) == [a_receipt(number - 1)]
        if backlog.is_outgrown:
            backlog.rewrite(path)
        largest = max(largest, path.stat().st_size)
    assert largest < SLACK_BYTES + 5 * len(chunk)
    content = content_of(path)
    restored = Backlog.restore(content.kept, backlog.start, content.answered)
    data, receipts = drain(restored, [])
    assert (data, [receipt.tag for receipt in receipts]) == (chunk, [b"99"])
