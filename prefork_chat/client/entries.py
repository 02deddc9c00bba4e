"""What there is to read: one entry for each message and each remark, and what became of our own.

Made by `conversation` and its parts, shown by screens, which must not change them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class State(Enum):
    """What is known about a message of ours."""

    WAITING = auto()
    """Not written yet: there is no connection, or others go first."""
    SENT = auto()
    """Written; the server has not answered."""
    DELIVERED = auto()
    """The server has handed it to whom it was for."""
    STORED = auto()
    """It is in the history and will be delivered."""
    FAILED = auto()
    """It was not delivered and will not be; the entry's `reason` says why."""
    UNSURE = auto()
    """It may have arrived, and nobody can tell."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will become of it."""
        return self not in (State.WAITING, State.SENT)


class Kind(Enum):
    """What an entry is."""

    MESSAGE = auto()
    FOUND = auto()
    """A message that was searched for, shown among others."""
    REMARK = auto()
    """The server, its operator or this client says something."""
    ERROR = auto()
    """The same, of what went wrong."""


@dataclass(slots=True, eq=False)
class Entry:
    """One message or remark. `time`: seconds since the epoch; `to`: a name or a room."""

    kind: Kind
    time: float
    text: str
    sender: str = ""
    to: str = ""
    is_mine: bool = False
    is_mention: bool = False
    is_old: bool = False
    """It comes from the history, not from a connection."""
    row_id: int = 0
    """Its place in the history, once that is known."""
    number: int = 0
    """Counts the entries of a conversation in the order in which they became known."""
    state: State | None = None
    """Of our own messages, else None."""
    reason: str = ""
    reached: int | None = None
    """How many members of the room had it."""
    is_repeated: bool = False
    """It was sent a second time, because the first had no answer."""

    @property
    def room(self) -> str:
        """The room that it was said in; empty for what was said to one person."""
        return self.to if self.to.startswith("#") else ""


def mentions(text: str, name: str) -> bool:
    """Say whether `text` names `name`, as a word of its own and in any case."""
    if not name:
        return False
    pattern = rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])"
    return re.search(pattern, text, re.IGNORECASE) is not None
