"""The console: goes round one loop between the daemon, the operator, and what he sees.

Shows events as they come and says how many it has lost; carries out what the operator types. When
the supervisor goes - it ends, is killed, or becomes another program - the console looks for it
again for a while, and goes on where there is one. One thread, in the command's process; it waits
for its screen and is waited for by nobody.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, assert_never

from prefork_chat import bans
from prefork_chat.bans import Ban
from prefork_chat.console import commands, display
from prefork_chat.console.answers import Answers, Outcome
from prefork_chat.console.commands import (
    Allow,
    Broadcast,
    Forbid,
    Help,
    KickOne,
    ListBans,
    ListClients,
    ListRooms,
    Misused,
    Quit,
    TellOne,
)
from prefork_chat.console.editor import Special
from prefork_chat.console.link import Link
from prefork_chat.errors import NotRunning, PreforkChatError
from prefork_chat.protocol.directives import Expel, Kick, Mute, Note, Tell
from prefork_chat.protocol.events import Answered, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from prefork_chat.console.answers import Word
    from prefork_chat.console.commands import Asked, Listing
    from prefork_chat.console.screen import Screen
    from prefork_chat.protocol.directives import Directive

_RETRY_SECONDS: Final = 0.1
_LOSS_SECONDS: Final = 1.0
"""At least so long between two lines that tell of losses, while more comes than is shown."""

_MOST_OWED: Final = 64
"""Answers of loops that may be under way before the next line is carried out: as many as find room
in the console's pair for sure."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a console behaves.

    `looks_on`: it shows events. `lasts`: it goes on when there is no more input. `wait_seconds`: it
    looks for a daemon that has gone for so long.
    """

    looks_on: bool
    lasts: bool
    wait_seconds: float


class Console:
    """One run of the console. `has_failed`: something was not done that was asked for."""

    def __init__(self, directory: Path, manner: Manner) -> None:
        """Come to the daemon in that directory; raises NotRunning or OperationError."""
        self._directory: Final = directory
        self._manner: Final = manner
        self._link: Link | None = self._come()
        self._answers: Final = Answers()
        self._is_over = False
        self._entered: Final[deque[str | Special]] = deque()
        self._has_input = True
        self._gone_at = 0.0
        self._lost = 0
        self._lost_at = 0.0
        self.has_failed = False

    def complete(self, before: str) -> Iterable[str]:
        """Return what the word before the cursor may become: a command, or who is here."""
        if before.startswith("/") and " " not in before:
            return list(commands.COMMANDS)
        return [] if self._link is None else self._link.names()

    def close(self) -> None:
        """Leave the daemon."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def run(self, screen: Screen) -> None:
        """Show and obey until the operator has enough, or the daemon has gone for too long.

        Raises NotRunning for the latter.
        """
        self._screen = screen
        if self._link is not None and self._manner.looks_on:
            self._screen.show([_introduce(self._link)])
        while not self._is_finished():
            ready = self._wait()
            if self._link is not None and self._link.events_fd in ready:
                self._hear(self._link)
            if self._link is not None and self._link.visit_fd in ready:
                self._lose_link()
            if self._screen.keys in ready:
                self._entered.extend(self._screen.read())
            while self._entered and self._has_input and self._answers.owed < _MOST_OWED:
                self._take(self._entered.popleft())
            for outcome in self._answers.expire(time.monotonic()):
                self._tell(outcome)
            if self._link is None:
                self._look_for_daemon()

    def _is_finished(self) -> bool:
        is_idle = not self._has_input and not self._answers.owed
        return self._is_over or (is_idle and not self._manner.lasts)

    def _wait(self) -> set[int]:
        """Wait for something to do; return the descriptors that are ready."""
        poll = select.poll()
        if self._has_input and not self._entered:
            poll.register(self._screen.keys, select.POLLIN)
        deadline = self._answers.next_expiry()
        if self._link is None:
            deadline = time.monotonic() + _RETRY_SECONDS
        else:
            poll.register(self._link.events_fd, select.POLLIN)
            poll.register(self._link.visit_fd, select.POLLIN)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1
        return {fd for fd, _ in poll.poll(timeout)}

    # The daemon

    def _come(self) -> Link:
        return Link.open(self._directory, wants_events=self._manner.looks_on)

    def _lose_link(self) -> None:
        self.close()
        self._gone_at = time.monotonic()
        self._lost = 0

    def _look_for_daemon(self) -> None:
        """Come again, if there is a daemon by now; complain once it takes a moment."""
        try:
            self._link = self._come()
        except PreforkChatError as error:
            waited = time.monotonic() - self._gone_at
            if waited >= self._manner.wait_seconds:
                reason = "it has not come again" if isinstance(error, NotRunning) else error
                raise NotRunning(f"the daemon has gone: {reason}") from error
        else:
            self._screen.show([f"-- {display.clock()} again: {_introduce(self._link)[3:]}"])

    def _hear(self, link: Link) -> None:
        heard, is_all = link.hear()
        clock = display.clock()
        lines = []
        for loop, event in heard:
            if isinstance(event, Answered | Taken):
                for outcome in self._answers.note(loop, event):
                    self._tell(outcome)
            else:
                lines.append(display.show_event(event, clock))
        now = time.monotonic()
        if (is_all or now >= self._lost_at + _LOSS_SECONDS) and link.lost > self._lost:
            lines.append(display.show_loss(link.lost - self._lost))
            self._lost, self._lost_at = link.lost, now
        if lines:
            self._screen.show(lines)

    # The operator

    def _take(self, entered: str | Special) -> None:
        if entered is Special.END:
            self._has_input = False
            self._is_over = self._manner.looks_on and not self._manner.lasts
        elif entered is Special.FORGET:
            self._screen.show(["-- Ctrl-D or /quit ends the console; the daemon goes on"])
        else:
            self._obey(entered)

    def _obey(self, line: str) -> None:
        try:
            asked = commands.parse(line)
            if asked is not None:
                self._carry_out(asked)
        except Misused as misused:
            self._tell(Outcome(str(misused), is_failure=True))
        except (PreforkChatError, OSError, ValueError) as error:
            self._tell(Outcome(f"that failed: {error}", is_failure=True))

    def _carry_out(self, asked: Asked) -> None:
        match asked:
            case Broadcast(text):
                self._send(Note(text), _told)
                self._require_link().post(text)
            case TellOne(name, text):
                self._send(Tell(name, text), partial(_about_one, name, "told"))
            case KickOne(name, reason):
                self._send(Kick(name, bans.terms(reason)), partial(_about_one, name, "kicked"))
            case Forbid():
                self._forbid(asked)
            case Allow():
                self._allow(asked)
            case ListBans() | ListClients() | ListRooms() | Help():
                self._screen.show(self._list(asked))
            case Quit():
                self._has_input = False
                self._is_over = self._manner.looks_on
            case _:
                assert_never(asked)

    def _list(self, asked: Listing) -> list[str]:
        match asked:
            case ListBans():
                return display.show_bans(self._bans())
            case ListClients():
                muted = {ban.target for ban in self._bans() if ban.kind == "mute"}
                return display.show_clients(self._require_link().clients(), muted)
            case ListRooms():
                return display.show_rooms(self._require_link().rooms())
            case Help():
                return commands.help_lines()

    def _forbid(self, asked: Forbid) -> None:
        now = time.time()
        until = None if asked.seconds is None else now + asked.seconds
        ban = Ban(asked.kind, asked.target, now, until, asked.reason)
        self._change(lambda others: bans.with_ban(others, ban))
        if ban.kind == "ban":
            self._send(Expel(ban.target, ban.terms), partial(_banned, ban))
        else:
            self._send(Mute(ban.target), partial(_muted, ban))

    def _allow(self, asked: Allow) -> None:
        found: list[Ban] = []

        def edit(others: Sequence[Ban]) -> list[Ban]:
            kept = bans.without(others, asked.kind, asked.target)
            found[:] = [ban for ban in others if ban not in kept]
            return kept

        self._change(edit)
        done = "unbanned" if asked.kind == "ban" else "unmuted"
        if not found:
            is_not = "banned" if asked.kind == "ban" else "muted"
            self._tell(Outcome(f"{asked.target} is not {is_not}", is_failure=True))
        elif asked.kind == "ban":
            self._tell(Outcome(f"{done} {asked.target}"))
        else:
            self._send(Mute(asked.target), lambda *_: Outcome(f"{done} {asked.target}"))

    def _bans(self) -> list[Ban]:
        """Return what holds now."""
        now = time.time()
        return [ban for ban in self._edit(bans.load) if ban.holds_at(now)]

    def _change(self, edit: Callable[[Sequence[Ban]], Iterable[Ban]]) -> None:
        self._edit(lambda directory: bans.change(directory, edit, time.time()))

    def _edit(self, act: Callable[[int], list[Ban]]) -> list[Ban]:
        """Do something with the file of bans, in the daemon's directory."""
        directory = os.open(self._require_link().seat.state_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return act(directory)
        finally:
            os.close(directory)

    def _send(self, directive: Directive, word: Word) -> None:
        number, loops = self._require_link().send(directive)
        outcome = self._answers.expect(number, loops, time.monotonic(), word)
        if outcome is not None:
            self._tell(outcome)

    def _require_link(self) -> Link:
        if self._link is None:
            raise NotRunning("there is no daemon just now")
        return self._link

    def _tell(self, outcome: Outcome) -> None:
        if outcome.is_failure:
            self.has_failed = True
            self._screen.complain(outcome.text)
        else:
            self._screen.show([f"-- {outcome.text}"])


def _introduce(link: Link) -> str:
    texts = "" if link.seat.shows_text else "; messages without their text (operator.see_messages)"
    daemon = link.daemon
    return f"-- prefork-chat {daemon.version}, pid {daemon.pid}, {len(link.names())} here{texts}"


def _told(count: int, is_sure: bool) -> Outcome:
    if not is_sure:
        return Outcome(f"told {_people(count)} and those of a worker that was killed just then")
    return Outcome(f"told {_people(count)}" if count else "nobody is here")


def _about_one(name: str, done: str, count: int, is_sure: bool) -> Outcome:
    if not count and not is_sure:
        return Outcome(f"{done} {name}, if here: a worker was killed just then")
    if not count:
        return Outcome(f"nobody named {name} is here", is_failure=True)
    return Outcome(f"{done} {name}")


def _banned(ban: Ban, count: int, _is_sure: bool) -> Outcome:
    closed = f"; {count} {'connection' if count == 1 else 'connections'} closed" if count else ""
    return Outcome(display.harmless(f"banned {ban.target}{ban.terms}{closed}"))


def _muted(ban: Ban, count: int, is_sure: bool) -> Outcome:
    away = "" if count or not is_sure else "; not here just now"
    return Outcome(display.harmless(f"muted {ban.target}{ban.terms}{away}"))


def _people(count: int) -> str:
    return f"{count:,} {'person' if count == 1 else 'people'}"
