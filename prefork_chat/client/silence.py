"""When a connection that brings nothing is given up: after a sign of life that did not come.

Called by `conversation` and `entrance`. A peer that has vanished sends no end of a connection; so
one that is silent is asked for a sign, and hung up on if none comes. Who waits for a person waits
for no connection (`allow`). Pure: the timers have the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.client.requests import Ask
    from prefork_chat.client.timers import Timers

_SILENCE_SECONDS: Final = 30.0
"""A connection that brings nothing for so long is asked for a sign of life."""
_PATIENCE_SECONDS: Final = 15.0
"""And given up if none comes within this time; the same for a greeting, and for JOIN."""


class Silence:
    """How long the present connection may be silent; owned by a `Conversation`."""

    def __init__(self, timers: Timers, ask: Ask, hang_up: Callable[[], None]) -> None:
        self._timers = timers
        self._ask = ask
        self._hang_up = hang_up

    def expect(self) -> None:
        """Hang up unless something comes soon: it has been asked for."""
        self._timers.after(_PATIENCE_SECONDS, "silence", self._hang_up)

    def broken(self) -> None:
        """Begin anew: something has come."""
        self._timers.after(_SILENCE_SECONDS, "silence", self._ask_for_a_sign)

    def allow(self) -> None:
        """Wait without end."""
        self._timers.drop("silence")

    def _ask_for_a_sign(self) -> None:
        self._ask("PING", lambda _: None)
        self.expect()
