"""Which names may be somebody's account: a filter that every process can ask without waiting.

One byte for each of very many cells; the keyed hash of a folded name says which cell is its own. A
cell is set before the account of a name is committed, and is never cleared. So 0 means that the
name is surely nobody's account; 1 that it may be, and who must know has the accounts looked up.
With 10,000 accounts one guest in a hundred is looked up in vain, with 100,000 one in ten.

Any process and thread may set a cell or look at one: a byte is stored and loaded at once, and of
two who set the same cell neither undoes what the other did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SET: Final = 1


class NameFilter:
    """A view of the cells, in shared memory."""

    __slots__ = ("_cells", "_hash", "_mask")

    def __init__(self, cells: memoryview[int], hash_key: Callable[[bytes], int]) -> None:
        """`cells` are bytes, a power of two of them; `hash_key` gives 64 bits of a folded name."""
        self._cells = cells
        self._mask = len(cells) - 1
        self._hash = hash_key

    def add(self, key: bytes) -> None:
        """Note that there is, or is about to be, an account of this folded name."""
        self._cells[self._hash(key) & self._mask] = _SET

    def may_have(self, key: bytes) -> bool:
        """Say whether there may be an account of this folded name; False is certain. 0.5 us."""
        return self._cells[self._hash(key) & self._mask] != 0

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        self._cells.release()
