"""What a conversation tells its screen: that something is to be shown, asked or done.

Screens that draw everything anew may ignore all but `Asked`; those that only append need each.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.client.entries import Entry
    from prefork_chat.client.talks import Talk


class Question(Enum):
    """What only the person can answer."""

    NAME = auto()
    """Another name; the next typed line is the answer."""
    PASSWORD = auto()
    """The password of the name; `password_given` takes the answer, as for the next."""
    NEW_PASSWORD = auto()


class Added(NamedTuple):
    """An entry stands at the end of a talk."""

    talk: Talk
    entry: Entry


class Changed(NamedTuple):
    """More is known about a message of ours."""

    entry: Entry


class Recalled(NamedTuple):
    """The history had these. `is_news`: they were missed, and have not been shown before."""

    talk: Talk
    entries: Sequence[Entry]
    is_news: bool


class Asked(NamedTuple):
    """The person is to be asked; `reason` says why."""

    question: Question
    reason: str


Event: TypeAlias = Added | Changed | Recalled | Asked
