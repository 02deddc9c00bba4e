"""A conversation: one person at one server, through as many connections as it takes.

Everything meets here. Screens and scripts call it, with the time in seconds of a monotonic clock,
and ask it afterwards what there is to do:

    entrance        when to connect (`connect_at`); then call `connected` or `lost`
    received        what a connection brought; `take_output` is what to write to it
    wake_at         when to call `tick`, if nothing else happens before
    must_hang_up    the connection is to be closed, and `lost` to be called
    take_events     what is new to show or to ask
    is_over         nothing more will come

How far a connection is says its `Phase` (`entrance`). When it ends without our will, all that was
under way is doubtful. When the next one has joined, the rooms are entered again, the history is
asked for what was missed, doubtful messages are looked for there, and those that are not found are
sent again, once (`homecoming`). Nothing here knows a socket, a clock or a terminal.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from prefork_chat.client.company import Company
from prefork_chat.client.entrance import Entrance, Phase
from prefork_chat.client.entries import Entry, Kind, State, mentions
from prefork_chat.client.events import Added, Changed, Event, Recalled
from prefork_chat.client.homecoming import Homecoming
from prefork_chat.client.mailbag import Mailbag
from prefork_chat.client.places import key_of
from prefork_chat.client.recall import Recall
from prefork_chat.client.reconnect import BackOff
from prefork_chat.client.requests import Reply, Requests
from prefork_chat.client.silence import Silence
from prefork_chat.client.talks import Talk, Talks
from prefork_chat.client.timers import Timers
from prefork_chat.client.wire import (
    Answer,
    Data,
    LineReader,
    Message,
    Note,
    Presence,
    parse,
    split_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prefork_chat.client.requests import Then

_FAREWELL_SECONDS: Final = 5.0
_TAG_BYTES: Final = 20


class Conversation:
    """One person's conversation with a server; owned by the thread of its screen."""

    def __init__(  # noqa: PLR0913 - all but the name by keyword
        self,
        name: str,
        *,
        password: str = "",
        rooms: Iterable[str] = (),
        recall_count: int = 30,
        wants_people: bool = True,
        chance: Callable[[], float] = lambda: 0.5,
        epoch: float = 0.0,
    ) -> None:
        """Begin, without a connection.

        `recall_count`: rows of the history to begin with; `wants_people`: whether to ask who is
        here; `chance`: a number from 0 to 1; `epoch`: what to add to the time for seconds since
        1970.
        """
        self.talks = Talks()
        self.company = Company()
        self._requests = Requests()
        self.mailbag = Mailbag(self._requests.next_tag)
        self.recall = Recall(self.talks, self.ask, lambda: self.name)
        self._recall_count = recall_count
        self._wants_people = wants_people
        self._epoch = epoch
        self._timers = Timers()
        self._silence = Silence(self._timers, self.ask, self._hang_up)
        self.entrance = Entrance(
            name=name,
            password=password,
            back_off=BackOff(chance),
            timers=self._timers,
            silence=self._silence,
            ask=self.ask,
            announce=self.announce,
            complain=partial(self.remark, is_error=True),
            arrived=self._arrive,
        )
        self._reader = LineReader()
        self._output: list[str] = []
        self._events: list[Event] = []
        self._homecoming = Homecoming(
            talks=self.talks,
            company=self.company,
            mailbag=self.mailbag,
            recall=self.recall,
            timers=self._timers,
            announce=self.announce,
            recall_count=recall_count,
        )
        self._is_leaving = False
        for room in rooms:
            self.talks.enter(room).is_entered = True
        self.must_hang_up = False

    # What there is to do

    @property
    def name(self) -> str:
        """Who we are, or would like to be."""
        return self.entrance.name

    @property
    def phase(self) -> Phase:
        """How far we are."""
        return self.entrance.phase

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.phase is Phase.OVER

    def wake_at(self) -> float | None:
        """Return when `tick` is to be called, if nothing else happens before; None: never."""
        times = [self._timers.next]
        if self.phase is Phase.HERE and not self._homecoming.is_settling:
            times.append(self.mailbag.wake_at(self._timers.now))
        return min((time for time in times if time is not None), default=None)

    def take_output(self) -> bytes:
        """Return what is to be written to the connection."""
        self._write_mail()
        if not self._output:
            return b""
        data = "".join(f"{line}\n" for line in self._output).encode(errors="replace")
        self._output.clear()
        return data

    @property
    def has_news(self) -> bool:
        """Whether there are events to take."""
        return bool(self._events)

    def take_events(self) -> list[Event]:
        """Return what is new since the last call."""
        events, self._events = self._events, []
        return events

    # Connections

    def connected(self, now: float) -> None:
        """Begin with a connection."""
        self._timers.now = now
        self.must_hang_up = False
        self._reader = LineReader()
        self.entrance.connected()

    def lost(self, now: float, why: str) -> None:
        """Note that the connection has ended, or could not be made."""
        self._timers.now = now
        self.must_hang_up = False
        self._output.clear()
        self._timers.clear()
        self._requests.forget()
        self._homecoming.connection_lost()
        for talk in self.talks:
            talk.members.clear()
            talk.is_counted = False
        if self._is_leaving:
            self.entrance.end()
        self.entrance.lost(why)
        if self.is_over:
            self._end()

    def received(self, data: bytes, now: float) -> None:
        """Take what the connection brought."""
        self._timers.now = now
        for line in self._reader.feed(data):
            if line.strip(b"\r"):
                self._hear(line.removesuffix(b"\r"))
        if self.phase is Phase.HERE:
            self._silence.broken()

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._timers.now = now
        for action in self._timers.due():
            action()

    # The person

    def say(self, to: str, text: str, now: float) -> list[Entry]:
        """Say something, in as many messages as it takes; return them."""
        self._timers.now = now
        if not to:
            self.remark("to whom? /msg name, or /join #room", is_error=True)
            return []
        talk = self.talks.get(to)
        overhead = len(f"@ CHAT {to} \n") + _TAG_BYTES
        said = []
        for part in split_message(text.replace("\r", " ").replace("\n", " "), overhead):
            entry = Entry(
                Kind.MESSAGE,
                now + self._epoch,
                part,
                sender=self.name,
                to=talk.name,
                is_mine=True,
                state=State.WAITING,
            )
            self.talks.add(talk, entry)
            self.mailbag.add(entry)
            self._events.append(Added(talk, entry))
            said.append(entry)
        return said

    def enter(self, room: str) -> None:
        """Enter a room, now and after each reconnect, and talk there."""
        talk = self.talks.enter(room)
        if self.phase is Phase.HERE and not talk.is_entered:
            self._enter(talk)
        talk.is_entered = True

    def password_given(self, password: str, now: float) -> None:
        """Take the answer to `Question.PASSWORD` or `NEW_PASSWORD`; empty: none is given."""
        self._timers.now = now
        if any(not character.isprintable() for character in password):
            self.remark("a password has no control characters", is_error=True)
            return
        if self.phase is Phase.LOCKED:
            self.entrance.unlock(password)
        elif password and self.phase is Phase.HERE:

            def answered(reply: Reply) -> None:
                if reply.answer.is_ok:
                    self.entrance.password = password
                    self.remark(f"the name {self.name} is yours: this password opens it")
                    self.recall.try_again()
                    self._homecoming.look()
                else:
                    self.remark(reply.answer.text, is_error=True)

            self.ask(f"PASS {password}", answered)
        else:
            self.remark("no password was set")

    def leave(self, now: float) -> None:
        """Say good-bye, once all messages have their answers; a second time: at once."""
        self._timers.now = now
        if not self.entrance.has_connection or self._is_leaving or self.phase is not Phase.HERE:
            self._end()
            return
        self._is_leaving = True
        if self.mailbag:
            self.remark(f"{len(self.mailbag)} messages are under way; /quit again: at once")
        self._timers.after(_FAREWELL_SECONDS, "farewell", self._end)
        self._say_good_bye()

    def choose_name(self, name: str, now: float) -> None:
        """Take the answer to `Question.NAME`."""
        self._timers.now = now
        self.entrance.choose_name(name)

    def exit(self, talk: Talk) -> None:
        """Leave a room, or drop the talk with a person."""
        if talk.is_entered and self.phase is Phase.HERE:
            self.ask(f"EXIT {talk.name}", lambda _: None)
        self.talks.forget(talk.name)

    def ask(self, line: str, then: Then) -> None:
        """Send a command; `then` is called with the answer, if the connection lasts as long."""
        self._output.append(self._requests.ask(line, then))

    def announce(self, event: Event) -> None:
        """Have this event among the next ones."""
        self._events.append(event)

    def remark(self, text: str, talk: Talk | None = None, *, is_error: bool = False) -> None:
        """Show something that nobody has said; in the current talk, unless another is given."""
        where = talk or self.talks.current
        entry = Entry(Kind.ERROR if is_error else Kind.REMARK, self._timers.now + self._epoch, text)
        self.talks.add(where, entry)
        self._events.append(Added(where, entry))

    # The server

    def _hear(self, line: bytes) -> None:
        match parse(line):
            case Answer() as answer:
                self._hear_answer(answer)
            case Data() as data:
                self._requests.add(data)
            case Message() as message:
                self._hear_message(message)
            case Note(text):
                self.remark(text)
                if text.startswith("RESUMED"):
                    self._homecoming.resume(self.name)
                elif text.startswith("MISSED"):
                    self._homecoming.catch_up(self.name)
            case Presence() as presence:
                talk = self.talks.get(presence.room)
                if text := self.company.note_presence(talk, presence):
                    self.remark(text, talk)
            case strange:
                self.remark(strange.text)

    def _hear_answer(self, answer: Answer) -> None:
        if self.phase is Phase.GREETING and answer.verb == "HELO" and not answer.tag:
            self.entrance.greeted(answer)
            return
        if answer.verb == "CHAT" and (entry := self.mailbag.answered(answer, self._timers.now)):
            self._events.append(Changed(entry))
            if entry.state is State.UNSURE and self.recall.is_offered:
                self._homecoming.catch_up(self.name)
        elif not self._requests.answered(answer) and not answer.is_ok:
            self.remark(answer.text, is_error=True)
        if self._is_leaving:
            self._say_good_bye()

    def _hear_message(self, message: Message) -> None:
        if self._homecoming.has_shown(message):
            return
        self.company.meet(message.sender)
        if not message.room and not self.talks.current.name:
            self.talks.enter(message.sender)
        talk = self.talks.get(message.room or message.sender)
        entry = Entry(
            Kind.MESSAGE,
            self._timers.now + self._epoch,
            message.text,
            sender=message.sender,
            to=message.room or self.name,
            is_mention=mentions(message.text, self.name),
        )
        self.talks.add(talk, entry)
        self._events.append(Added(talk, entry))

    # Here

    def _arrive(self, remark: str) -> None:
        """Go on where the last connection ended."""
        if remark:
            self.remark(remark)
        self.ask("HELO pres", self.company.note_extras)
        for talk in self.talks:
            if talk.is_entered:
                self._enter(talk)
        if self._wants_people:
            self.ask("WHOS", self.company.note_people)
            self.ask("ROOM", self.company.note_rooms)
        self._homecoming.begin(self.name)

    def _enter(self, talk: Talk) -> None:
        is_first = not talk.entries

        def answered(reply: Reply) -> None:
            if not reply.answer.is_ok:
                talk.is_entered = reply.answer.code in ("BUSY", "RATE")
                self.remark(reply.answer.text, talk, is_error=True)
                return
            self.company.rooms.setdefault(key_of(talk.name), talk.name)
            self.ask(f"WHOS {talk.name}", partial(self.company.note_members, talk))
            if is_first and self.recall.is_offered and self._recall_count:
                self.recall.page_back(talk, self._recall_count, recalled)

        def recalled(entries: list[Entry], _complaint: str) -> None:
            if entries:
                self._events.append(Recalled(talk, entries, is_news=False))

        self.ask(f"ENTR {talk.name}", answered)

    # Time

    def _write_mail(self) -> None:
        if self.phase is Phase.HERE and not self._homecoming.is_settling:
            self._output += self.mailbag.write(self._timers.now)

    def _hang_up(self) -> None:
        self.must_hang_up = True

    def _say_good_bye(self) -> None:
        if not self.mailbag and self._timers.drop("farewell"):
            self._timers.after(2.0, "end", self._end)
            self.ask("LEAV", lambda _: self._end())

    def _end(self) -> None:
        self._events += [Changed(e) for e in self.mailbag.give_up("you left before it was sent")]
        self.entrance.end()
        self._timers.clear()
        self.must_hang_up = self.entrance.has_connection
