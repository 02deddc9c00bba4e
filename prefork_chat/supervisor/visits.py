"""Which consoles there are: a console gets a place when it comes, and loses it when it is gone.

Called by the supervisor's only thread, for `admin`, whose connection to a console is the visit: a
console that is killed has hung up. All that happens is a store in the registry, by which loops
learn that somebody watches; what is said there the supervisor does not read.

Loops that have not noticed yet may write to a place that is free again. Every datagram says for
which visit it is, so its next console is not told what was for another.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.config import resolve_state_dir
from prefork_chat.control import Seated
from prefork_chat.supervisor.operations import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_chat.config import Config
    from prefork_chat.control import Answer, Visit
    from prefork_chat.pairs import Pair
    from prefork_chat.registry.consoles import Consoles
    from prefork_chat.supervisor.handing import Parcel

BUFFER_BYTES: Final = 192 * 1024
"""What may wait for a console: some thousand lines, less than a second of a busy chat, so that the
view is of now. A console that is stopped loses lines soon, which are counted (the kernel doubles
the value, and caps it at net.core.wmem_max, 208 KiB where nobody has changed it)."""

_MOST_LEFT: Final = 4096  # datagrams of one place


class Visits:
    """The places of consoles. Owner: the supervisor's thread."""

    def __init__(self, consoles: Consoles, pairs: Sequence[Pair]) -> None:
        """Begin with free places: a console of the supervisor before us comes again.

        What waits for it is left to it: answers, for instance, that came meanwhile.
        """
        self._consoles: Final = consoles
        self._pairs: Final = pairs
        for place, pair in enumerate(pairs):
            pair.inlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            consoles.end(place)

    def begin(self, config: Config, request: Visit) -> tuple[int, Iterator[Answer | Parcel]]:
        """Return the place of a console that has come, and its answer; raises Refused."""
        visits = self._consoles.visits()
        if all(visits):
            raise Refused(f"{len(visits)} consoles are open, more there cannot be: close one")
        state_dir = resolve_state_dir(config)
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"{state_dir}: {error.strerror}") from error
        place = visits.index(0)
        visit = time.monotonic_ns()
        self._consoles.begin(place, visit, wants_events=request.wants_events)
        return place, iter([Seated(place, visit, str(state_dir), config.operator.see_messages)])

    def end(self, place: int) -> None:
        """Take a place back; what still waits there goes."""
        self._consoles.end(place)
        outlet = self._pairs[place].outlet
        for _ in range(_MOST_LEFT):
            try:
                outlet.recv(1)
            except BlockingIOError:
                return
