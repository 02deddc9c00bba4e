"""From where wrong passwords came, and how long nobody may try another one from there.

New passwords are counted in the same way, by the account that they are for.

One word for each of many cells, in shared memory, so that all workers slow the same peer and a
worker's death forgives nothing. The keyed hash of the peer's origin says which cell is its own; two
origins that share one share their penalty, which nobody can bring about on purpose.

    word    <q>  when the next attempt is allowed (ms, monotonic clock) << 8 | how many were wrong

Each wrong password doubles the wait for the next attempt, up to a bound; a quiet time forgives them
one by one. Read and written without a lock: of two workers that punish at once one may be
forgotten, which costs the guesser a second less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS: Final = 0.25
"""After the first wrong password: nobody notices who has mistyped his own."""

LONGEST_SECONDS: Final = 8.0

FORGIVEN_SECONDS: Final = 60.0
"""Behind the end of the wait, for each wrong password."""

_COUNT_BITS: Final = 8
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_MOST: Final = 16  # more doublings than LONGEST_SECONDS allows
_MILLISECONDS: Final = 1000


class Penalties:
    """A view of the cells, in shared memory."""

    __slots__ = ("_cells", "_hash", "_mask")

    def __init__(self, cells: memoryview[int], hash_origin: Callable[[bytes], int]) -> None:
        """`cells` are words, a power of two of them."""
        self._cells = cells
        self._mask = len(cells) - 1
        self._hash = hash_origin

    def wait_seconds(self, origin: bytes, now: float) -> float:
        """How long no attempt is allowed from there, 0 if one is allowed now (monotonic `now`)."""
        word = self._cells[self._hash(origin) & self._mask]
        return max(0.0, (word >> _COUNT_BITS) / _MILLISECONDS - now)

    def punish(self, origin: bytes, now: float) -> None:
        """Note that a wrong password has come from there."""
        place = self._hash(origin) & self._mask
        word = self._cells[place]
        allowed_at = (word >> _COUNT_BITS) / _MILLISECONDS
        forgiven = int(max(0.0, now - allowed_at) / FORGIVEN_SECONDS)
        count = min(_MOST, max(0, (word & _COUNT_MASK) - forgiven) + 1)
        wait_seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (count - 1))
        allowed_ms = int((max(now, allowed_at) + wait_seconds) * _MILLISECONDS)
        self._cells[place] = allowed_ms << _COUNT_BITS | count

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        self._cells.release()
