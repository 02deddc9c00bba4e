"""Who looks on: the operator's consoles, in a few words of the registry's shared memory.

There are CONSOLES places. The supervisor gives one to each console that comes, and takes it
back when the console is gone; a loop looks at one word in each turn, and as long as that is 0 the
consoles cost nothing. Every word has one writer, so plain stores are enough and nobody locks.

    first line       <q 4q 24x>   watched: a bit for each place at which somebody wants events; then
                                  of each place its *visit*: a number that no console had before;
                                  0: the place is free.                          (the supervisor)
    line of a loop   <4q 32x>     of each place: lines that this loop had for it and that found no
                                  room, ever                                           (that loop)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.registry.layout import CONSOLES, LINE_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHED: Final = 0
_VISITS: Final = 1


class Consoles:
    """Views of that memory; used in any process and thread."""

    __slots__ = ("words",)

    def __init__(self, words: memoryview[int]) -> None:
        """`words` is a view of format "q" of exactly that part."""
        self.words = words

    @property
    def watched(self) -> int:
        """A bit for each place at which somebody wants events."""
        return self.words[WATCHED]

    def watching(self) -> Iterator[int]:
        """Return the places at which somebody wants events."""
        watched = self.words[WATCHED]
        return (place for place in range(CONSOLES) if watched >> place & 1)

    def visit(self, place: int) -> int:
        """Return the number of the console that has the place, 0 if none has."""
        return self.words[_VISITS + place]

    def visits(self) -> list[int]:
        """Return that of all places."""
        return self.words[_VISITS : _VISITS + CONSOLES].tolist()

    def begin(self, place: int, visit: int, *, wants_events: bool) -> None:
        """Give a free place to a console (supervisor)."""
        self.words[_VISITS + place] = visit
        if wants_events:
            self.words[WATCHED] |= 1 << place

    def end(self, place: int) -> None:
        """Take the place back (supervisor); it does no harm if it is free."""
        self.words[WATCHED] &= ~(1 << place)
        self.words[_VISITS + place] = 0

    def lose(self, loop: int, place: int, lines: int) -> None:
        """Count lines of the loop of that index that found no room (that loop)."""
        self.words[LINE_WORDS * (1 + loop) + place] += lines

    def lost(self, place: int) -> int:
        """How many lines for that place have found no room, ever; any console of it counts on."""
        return sum(self.words[LINE_WORDS + place :: LINE_WORDS])

    def close(self) -> None:
        """Let go of the shared memory in this process."""
        self.words.release()
