"""A slow reader's backlog as a file: whatever a kill left of it can be gone on with."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_chat.worker.spill import Content, Kept, Spill, load
from tests.worker.spilled import FIRST, a_receipt, content_of, pieces

if TYPE_CHECKING:
    from pathlib import Path


def write_all(spill: Spill, frames: list[bytes | int]) -> None:
    for frame in frames:
        if isinstance(frame, bytes):
            spill.append(frame)
        else:
            spill.await_receipt(a_receipt(frame))


def kept_of(frames: list[bytes | int]) -> list[Kept]:
    """What is to be read back of `frames`."""
    kept: list[Kept] = []
    end = FIRST
    for frame in frames:
        if isinstance(frame, bytes):
            end += len(frame)
            kept.append(Kept(frame, end, []))
        elif kept:
            kept[-1].awaited.append(a_receipt(frame))
    return kept


FRAMES = st.lists(st.binary(min_size=1, max_size=40) | st.integers(0, 99), max_size=8).map(
    lambda frames: [b"first", *frames]
)


def test_no_file_and_a_file_without_a_whole_header_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    assert load(path) is None
    Spill.create(path, FIRST)
    header = path.read_bytes()
    for size in range(len(header)):
        path.write_bytes(header[:size])
        assert load(path) is None
    path.write_bytes(header)
    assert content_of(path) == Content(FIRST, FIRST, [], len(header), len(header))


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    Spill.create(path, FIRST)
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=30, deadline=None)
@given(FRAMES)
def test_a_frame_that_a_kill_cut_off_is_not_counted_wherever_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes | int]
) -> None:
    """At every size that the file can have; and its successor goes on behind the last whole one."""
    path = tmp_path_factory.mktemp("spill") / "1.1"
    spill = Spill.create(path, FIRST)
    sizes = [path.stat().st_size]
    for frame in frames:
        write_all(spill, [frame])
        sizes.append(path.stat().st_size)
    whole = path.read_bytes()
    for cut in range(sizes[0], len(whole) + 1):
        path.write_bytes(whole[:cut])
        count = sum(size <= cut for size in sizes) - 1
        content = content_of(path)
        assert pieces(content.kept) == pieces(kept_of(frames[:count]))
        assert content.size == sizes[count]
        reopened = Spill.reopen(path, content, forget_newest_awaited=False)
        write_all(reopened, [b"more", 5])
        expected = [*frames[:count], b"more", 5]
        assert pieces(content_of(path).kept) == pieces(kept_of(expected))
        os.close(reopened._fd)


@given(FRAMES)
def test_who_settles_the_newest_bytes_anew_has_their_answers_forgotten(
    tmp_path_factory: pytest.TempPathFactory, frames: list[bytes | int]
) -> None:
    path = tmp_path_factory.mktemp("spill") / "1.1"
    write_all(Spill.create(path, FIRST), frames)
    reopened = Spill.reopen(path, content_of(path), forget_newest_awaited=True)
    newest = max(n for n, frame in enumerate(frames) if isinstance(frame, bytes))
    remaining = frames[: newest + 1]
    assert pieces(content_of(path).kept) == pieces(kept_of(remaining))
    write_all(reopened, [7])
    assert pieces(content_of(path).kept) == pieces(kept_of([*remaining, 7]))


def test_a_long_log_is_read_in_a_moment(tmp_path: Path) -> None:
    """Its clients wait meanwhile. Copying what is left of it for each frame took 10 s."""
    spill = Spill.create(tmp_path / "7.1", FIRST)
    for number in range(8000):
        spill.append(b"x" * 1500)
        spill.await_receipt(a_receipt(number))
    start = time.monotonic()
    content = content_of(tmp_path / "7.1")
    assert time.monotonic() - start < 2.0
    assert [kept.awaited[0].tag for kept in content.kept] == [b"%d" % n for n in range(8000)]
    spill.remove()


def test_how_far_things_have_got_is_in_the_header_and_moves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    spill = Spill.create(path, FIRST)
    write_all(spill, [b"12345", 1])
    before = content_of(path)
    spill.note_answered(FIRST + 3)
    spill.note_taken(FIRST + 4)
    spill.append(b"678")
    content = content_of(path)
    assert (content.answered, content.taken) == (FIRST + 3, FIRST + 4)
    assert pieces(content.kept) == [*pieces(before.kept), (b"678", FIRST + 8, [])]


def test_notes_can_still_be_made_by_a_successor(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    write_all(Spill.create(path, FIRST), [b"12345"])
    successor = Spill.reopen(path, content_of(path), forget_newest_awaited=False)
    successor.note_taken(FIRST + 2)
    successor.append(b"6")
    content = content_of(path)
    assert (content.taken, [kept.data for kept in content.kept]) == (FIRST + 2, [b"12345", b"6"])


def test_a_new_log_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "1.1"
    write_all(Spill.create(path, FIRST), [b"of whoever had the slot before", 1])
    Spill.create(path, 5)
    assert content_of(path).kept == []
    assert content_of(path).taken == 5


def test_a_log_is_rewritten_in_one_step(tmp_path: Path) -> None:
    """Until the rename the old one is there, and what a kill leaves aside is nobody's spill."""
    path = tmp_path / "1.1"
    old = Spill.create(path, FIRST)
    write_all(old, [b"old", 1])
    kept = [Kept(b"345", FIRST + 5, [a_receipt(1), a_receipt(2)]), Kept(b"6", FIRST + 6, [])]
    spill = Spill.rewrite(path, Content(FIRST + 1, FIRST + 2, kept))
    content = content_of(path)
    assert (content.answered, content.taken) == (FIRST + 1, FIRST + 2)
    assert pieces(content.kept) == pieces(kept)
    assert list(tmp_path.iterdir()) == [path]
    spill.append(b"7")
    assert content_of(path).kept[-1].end == FIRST + 7


def test_it_can_be_removed_once_and_does_not_mind_that_it_is_gone(tmp_path: Path) -> None:
    for is_gone in (False, True):
        path = tmp_path / "1.1"
        spill = Spill.create(path, FIRST)
        if is_gone:
            path.unlink()
        spill.remove()
        assert not path.exists()


def test_a_file_system_without_room_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that is cut short is one, too: nobody may go on behind a torn frame."""
    spill = Spill.create(tmp_path / "1.1", FIRST)
    monkeypatch.setattr(os, "write", lambda _, data: len(data) - 1)
    with pytest.raises(OSError, match="No space left"):
        spill.append(b"12345")
