"""What two loops write down of a session that moves, for each other and for their successors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.worker.moves import Left, Moves, is_note

if TYPE_CHECKING:
    from pathlib import Path

LEFT = Left(5, [(3, 1), (7, 2)], [0, 2**62, 17])


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    moves = Moves(tmp_path)
    moves.note_left(30, 4, LEFT)
    moves.note_arrived(30, 4, 2, [1, 2, 3])
    assert moves.left(30, 4) == LEFT
    assert moves.arrived(30, 4, 2) == [1, 2, 3]
    assert all(is_note(path) for path in tmp_path.iterdir())
    assert not is_note(tmp_path / "30.4")


def test_nothing_is_known_where_nothing_was_noted_or_only_half(tmp_path: Path) -> None:
    moves = Moves(tmp_path)
    moves.note_left(30, 4, LEFT)
    moves.note_arrived(30, 4, 2, [1, 2, 3])
    assert moves.left(30, 5) is None
    assert moves.arrived(30, 4, 1) == []
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert moves.left(30, 4) is None
    assert moves.arrived(30, 4, 2) == []
    assert list(moves.all_left()) == []


def test_all_who_were_let_go_are_found_and_forgotten_with_all_their_notes(tmp_path: Path) -> None:
    moves = Moves(tmp_path)
    (tmp_path / "30.4").write_bytes(b"a spill")
    moves.note_left(30, 4, LEFT)
    moves.note_left(31, 1, LEFT)
    moves.note_arrived(30, 4, 2, [1])
    assert sorted(moves.all_left(), key=lambda found: found[0]) == [(30, 4, LEFT), (31, 1, LEFT)]
    moves.forget(30, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["30.4", "31.1.left"]
