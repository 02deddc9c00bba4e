"""Which lines of other programs are said, and by which rule the others are not. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.protocol.names import fold, is_name
from prefork_chat.protocol.replies import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERB: Final = b"CHAT"
_ROOM: Final = b"#"
_ANY_END: Final = "*"


class Accepted(NamedTuple):
    """A line to be said, and to whom: a name or #room, folded."""

    line: bytes
    destination: bytes

    @property
    def is_for_room(self) -> bool:
        """Say whether it is for all who are in a room."""
        return self.destination.startswith(_ROOM)


class Rejected(NamedTuple):
    """Why a line is not said, in words for the log."""

    reason: str


class Rules:
    """To whom one way in may speak."""

    def __init__(self, to: Iterable[str]) -> None:
        """`to`: names and #rooms; one that ends in * stands for all that begin like that."""
        folded = [fold(who.encode()) for who in to]
        self._exact: Final = {who for who in folded if not who.endswith(b"*")}
        self._beginnings: Final = tuple(who[:-1] for who in folded if who.endswith(b"*"))

    def judge(self, line: bytes) -> Accepted | Rejected:
        """Decide about a line without its end; an empty one is for the caller to pass over."""
        if len(line) >= MAX_LINE_BYTES:
            return Rejected(f"longer than {MAX_LINE_BYTES - 1} bytes")
        verb, _, rest = line.partition(b" ")
        destination, _, message = rest.partition(b" ")
        if verb.upper() != _VERB or not message:
            return Rejected("not of the form CHAT <name or #room> <message>")
        if not is_name(destination.removeprefix(_ROOM)):
            return Rejected("neither a name nor a #room behind CHAT")
        key = fold(destination)
        if key not in self._exact and not key.startswith(self._beginnings):
            return Rejected("to whom it may not speak")
        return Accepted(b"%b %b %b" % (_VERB, destination, message), key)
