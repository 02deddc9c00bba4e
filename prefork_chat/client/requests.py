"""Commands whose answer somebody waits for: everything but CHAT, which is the mailbag's.

Called by `conversation`. Each command gets a tag; the DATA lines with that tag are collected until
its OK or ERR, and then the function that was given is called with both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.client.wire import Answer, Data

    Then: TypeAlias = Callable[["Reply"], None]
    Ask: TypeAlias = Callable[[str, Then], None]


class Reply(NamedTuple):
    """A whole answer: its last line, and what came before it."""

    answer: Answer
    data: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Request:
    then: Then
    data: list[str] = field(default_factory=list)


class Requests:
    """The commands that have no answer yet, by tag."""

    def __init__(self) -> None:
        self._tags = 0
        self._open: dict[str, _Request] = {}

    def __len__(self) -> int:
        """Return how many have no answer yet."""
        return len(self._open)

    def next_tag(self) -> str:
        """Return a tag that was never given before, for any line."""
        self._tags += 1
        return str(self._tags)

    def ask(self, line: str, then: Then) -> str:
        """Return `line` with a tag before it; `then` is called when it is answered."""
        tag = self.next_tag()
        self._open[tag] = _Request(then)
        return f"@{tag} {line}"

    def add(self, data: Data) -> bool:
        """Keep a DATA line for its answer; False if nobody has asked for it."""
        request = self._open.get(data.tag)
        if request is None:
            return False
        request.data.append(data.fields)
        return True

    def answered(self, answer: Answer) -> bool:
        """Tell who has asked; False if nobody has."""
        request = self._open.pop(answer.tag, None)
        if request is None:
            return False
        request.then(Reply(answer, tuple(request.data)))
        return True

    def forget(self) -> None:
        """Drop all: the connection that their answers were to come from has ended."""
        self._open.clear()
