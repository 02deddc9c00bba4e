"""What two loops must know of a session in rooms that moves from one to the other.

Both are sent batches of its rooms for a while, and what one of them has handed to it the other must
not. Each loop's batches are numbered, and come to a loop in their order; so it is enough to know up
to which batch of each loop the old loop had got when it let go of the session (`Left`), and the new
one when it took it over (`arrived`). From then on

    the new loop   hands to it what is beyond both; the rest is the old loop's business
    the old loop   sends on to it what the new one was not sent, or had got before it took over

These are files in the runtime directory, named after the session, so that successors know it, too;
they are written before the session's word says that it is released, or its slot that it is taken
over, and go with the session. Without room for them a session stays where it is. Owner: the loop
that lets go, and the one that takes over; only their threads come here.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LEFT: Final = "left"
_AT: Final = "at"


class Left(msgspec.Struct, array_like=True):
    """Whence a session has gone: `loop`, with (place, generation) of the rooms that it was in.

    `heard`: by loop, the last of its batches that was handed to the session there.
    """

    loop: int
    rooms: list[tuple[int, int]]
    heard: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode_left = msgspec.msgpack.Decoder(Left).decode
_decode_heard = msgspec.msgpack.Decoder(list[int]).decode


def is_note(path: Path) -> bool:
    """Say whether a file of that directory has more to its name than slot and generation."""
    return len(path.name.split(".")) > 2


class Moves:
    """The notes in a directory."""

    __slots__ = ("_directory",)

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def note_left(self, slot: int, generation: int, left: Left) -> None:
        """Note that a session is about to be let go. Raises OSError."""
        self._path(slot, generation, _LEFT).write_bytes(_encode(left))

    def note_arrived(self, slot: int, generation: int, loop: int, heard: list[int]) -> None:
        """Note that a session is about to be taken over by `loop`. Raises OSError."""
        self._path(slot, generation, f"{_AT}.{loop}").write_bytes(_encode(heard))

    def left(self, slot: int, generation: int) -> Left | None:
        """Return whence a session has come, None if it was never let go."""
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return _decode_left(self._path(slot, generation, _LEFT).read_bytes())
        return None

    def arrived(self, slot: int, generation: int, loop: int) -> list[int]:
        """Return what `loop` had got when it took a session over; empty: nothing is known."""
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return _decode_heard(self._path(slot, generation, f"{_AT}.{loop}").read_bytes())
        return []

    def all_left(self) -> Iterator[tuple[int, int, Left]]:
        """Yield slot, generation and note of every session that was let go."""
        for path in list(self._directory.glob(f"*.*.{_LEFT}")):
            slot, generation, _ = path.name.split(".")
            left = self.left(int(slot), int(generation))
            if left is not None:
                yield int(slot), int(generation), left

    def forget(self, slot: int, generation: int) -> None:
        """Remove all notes of a session that is over."""
        for path in self._directory.glob(f"{slot}.{generation}.*"):
            path.unlink(missing_ok=True)

    def _path(self, slot: int, generation: int, suffix: str) -> Path:
        return self._directory / f"{slot}.{generation}.{suffix}"
