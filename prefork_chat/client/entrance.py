"""How one is let in: when to connect, under which name to JOIN, and what to do when it is refused.

Called by `conversation`, which tells it what becomes of connections and what the server answers. A
refusal that passes is followed by another JOIN; one that does not, by a question to the person: for
the password of an account, or for another name. After a connection that was lost the server may
take a while to notice, so `INUSE` is no refusal then. Pure: the timers have the time.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from prefork_chat.client.events import Asked, Question
from prefork_chat.client.places import is_person
from prefork_chat.protocol.names import MAX_NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.client.events import Event
    from prefork_chat.client.reconnect import BackOff
    from prefork_chat.client.requests import Ask, Reply
    from prefork_chat.client.silence import Silence
    from prefork_chat.client.timers import Timers
    from prefork_chat.client.wire import Answer

_INUSE_SECONDS: Final = 60.0
"""So long a server may take to notice that our last connection has gone."""
_FULL_SECONDS: Final = 2.0
_SLOWED_SECONDS: Final = 10.0
"""Who is told that too many passwords were wrong waits so long before the next JOIN."""


class Phase(Enum):
    """How far the present connection is."""

    AWAY = auto()
    """There is none."""
    GREETING = auto()
    """The server has not said who it is."""
    JOINING = auto()
    """JOIN is not answered yet."""
    NAMELESS = auto()
    """The person is to choose another name; the connection may have ended meanwhile."""
    LOCKED = auto()
    """The person is to give the password; the connection may have ended meanwhile."""
    HERE = auto()
    """We have joined."""
    OVER = auto()


class Entrance:
    """Who we are, and how far we have got; owned by a `Conversation`.

    `connect_at` is when to connect, if there is no connection; None: not now. `has_joined` says
    whether we have been let in, by this connection or an earlier one.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        name: str,
        password: str,
        back_off: BackOff,
        timers: Timers,
        silence: Silence,
        ask: Ask,
        announce: Callable[[Event], None],
        complain: Callable[[str], None],
        arrived: Callable[[str], None],
    ) -> None:
        """Begin without a connection; `arrived` is called, with a remark, when we have joined."""
        self.name = name
        self.password = password
        self.phase = Phase.AWAY
        self.connect_at: float | None = 0.0
        self.has_connection = False
        self.has_joined = False
        self._server = ""
        self._lost_at: float | None = None
        self._back_off = back_off
        self._timers = timers
        self._silence = silence
        self._ask = ask
        self._announce = announce
        self._complain = complain
        self._arrived = arrived

    def connected(self) -> None:
        """Wait for the greeting."""
        self.has_connection = True
        self.connect_at = None
        if self.phase is Phase.AWAY:
            self.phase = Phase.GREETING
        self._silence.expect()

    def lost(self, why: str) -> None:
        """Say when to connect again, unless that is for the person to decide, or all is over."""
        self.has_connection = False
        if self.phase in {Phase.NAMELESS, Phase.LOCKED, Phase.OVER}:
            return  # an answer will bring the next connection, if there is to be one
        was_here = self.phase is Phase.HERE
        self.phase = Phase.AWAY
        self.connect_at = self._timers.now + self._back_off.next_wait()
        if was_here or self._lost_at is None:
            self._complain(f"no connection ({why}): trying again")
        if self._lost_at is None:
            self._lost_at = self._timers.now

    def end(self) -> None:
        """Want no connection any more."""
        self.phase = Phase.OVER
        self.connect_at = None

    def greeted(self, answer: Answer) -> None:
        """Take the server's greeting."""
        if answer.is_ok:
            self._server = answer.text
            self._join()
        else:
            self._complain(answer.text)

    def choose_name(self, name: str) -> None:
        """Take the answer to `Question.NAME`."""
        if not is_person(name):
            rule = f"a name is 1-{MAX_NAME_BYTES} of A-Z a-z 0-9 _ . -, a letter or digit first"
            self._ask_name(f"{rule}: {name} is none")
            return
        self.name, self.password = name, ""
        self._join_or_connect()

    def unlock(self, password: str) -> None:
        """Take the answer to `Question.PASSWORD`; empty: none is given."""
        self.password = password
        if password:
            self._join_or_connect()
        else:
            self._ask_name(f"{self.name} needs a password: another name?")

    def _join_or_connect(self) -> None:
        if self.has_connection:
            self._join()
        else:
            self.phase = Phase.AWAY
            self.connect_at = self._timers.now

    def _join(self) -> None:
        self.phase = Phase.JOINING
        self._silence.expect()
        self._ask(f"JOIN {self.name} {self.password}".rstrip(" "), self._answered)

    def _answered(self, reply: Reply) -> None:
        answer = reply.answer
        if answer.is_ok:
            self._arrive(answer.text.partition(" ")[0] or self.name)
            return
        self._silence.allow()  # nobody is waited for now but a person
        match answer.code:
            case "INUSE" if self.has_joined and self._is_recent():
                self._join_after(1.0)
            case "AUTH":
                self.phase = Phase.LOCKED
                self.password = ""
                self._complain(answer.text)
                self._announce(Asked(Question.PASSWORD, f"password of {self.name}"))
            case "FULL" | "BUSY" | "RATE" | "INTERNAL":
                self._complain(answer.text)
                self._join_after(_SLOWED_SECONDS if answer.code == "RATE" else _FULL_SECONDS)
            case _:
                self._ask_name(answer.text)

    def _join_after(self, seconds: float) -> None:
        self.phase = Phase.GREETING
        self._timers.after(seconds, "join", self._join)

    def _is_recent(self) -> bool:
        return self._lost_at is not None and self._timers.now - self._lost_at < _INUSE_SECONDS

    def _arrive(self, name: str) -> None:
        self.phase = Phase.HERE
        self.name = name
        self._back_off.succeeded()
        remark = ""
        if not self.has_joined:
            remark = f"you are {name} at {self._server}"
        elif self._lost_at is not None:
            remark = f"connected again after {self._timers.now - self._lost_at:.0f} s"
        self._lost_at = None
        self.has_joined = True
        self._silence.broken()
        self._arrived(remark)

    def _ask_name(self, reason: str) -> None:
        self.phase = Phase.NAMELESS
        self._announce(Asked(Question.NAME, reason))
