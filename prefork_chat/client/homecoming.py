"""Coming back: what was missed is fetched, and what was under way is found or sent again.

Called by `conversation` when it has joined, when the server says that something was lost or missed,
and when an answer was UNSURE. While doubtful messages are looked for (`is_settling`), no others are
written, so that order is kept; after `_SETTLE_SECONDS` it is decided without the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.client.entries import State, mentions
from prefork_chat.client.events import Changed, Recalled
from prefork_chat.client.places import key_of
from prefork_chat.client.recall import MARK_SECONDS
from prefork_chat.client.talks import GUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.client.company import Company
    from prefork_chat.client.entries import Entry
    from prefork_chat.client.events import Event
    from prefork_chat.client.mailbag import Mailbag
    from prefork_chat.client.recall import Recall
    from prefork_chat.client.talks import Talk, Talks
    from prefork_chat.client.timers import Timers
    from prefork_chat.client.wire import Message

_STORED_SECONDS: Final = 0.3
"""What was stored for us comes right after JOIN, so the history is asked a moment later."""
_SETTLE_SECONDS: Final = 15.0
_TWICE_SECONDS: Final = 10.0
"""So long after catching up, what it brought may still come over the connection, too."""


class Homecoming:
    """What is done once a connection has joined; owned by a `Conversation`, whose parts it uses."""

    def __init__(  # noqa: PLR0913 - it is the part in which the others meet
        self,
        *,
        talks: Talks,
        company: Company,
        mailbag: Mailbag,
        recall: Recall,
        timers: Timers,
        announce: Callable[[Event], None],
        recall_count: int,
    ) -> None:
        """`recall_count`: how many rows of the history to begin with; 0: show none."""
        self._talks = talks
        self._company = company
        self._mailbag = mailbag
        self._recall = recall
        self._timers = timers
        self._announce = announce
        self._recall_count = recall_count
        self._arrived = 0
        self._twice: list[Entry] = []
        self.is_settling = False

    def begin(self, name: str) -> None:
        """Go on where the last connection ended, or begin; `name` is ours now."""
        self._arrived = self._talks.next_number
        self._recall.try_again()
        if self._recall.has_mark:
            self._timers.after(_STORED_SECONDS, "recall", lambda: self._come_back(name))
        elif self._recall_count:
            self._timers.after(_STORED_SECONDS, "recall", self.look)
        else:
            self.look()
        self.is_settling = bool(self._mailbag.doubtful)
        if self.is_settling:
            self._timers.after(_SETTLE_SECONDS, "settle", self._settle)
        self._timers.after(MARK_SECONDS, "mark", self._mark)

    def resume(self, name: str) -> None:
        """Make all that has no answer doubtful: the server has lost it, the connection goes on."""
        for entry in self._mailbag.lose_answers():
            self._announce(Changed(entry))
        self.begin(name)

    def connection_lost(self) -> None:
        """Expect no answers any more."""
        self.is_settling = False
        self._recall.connection_lost()
        for entry in self._mailbag.lose_answers():
            self._announce(Changed(entry))

    def look(self) -> None:
        """Fetch what was said last, for the first time."""

        def arrived(new: list[tuple[Talk, list[Entry]]]) -> None:
            for talk, entries in new:
                if self._recall_count:
                    self._announce(Recalled(talk, entries, is_news=False))
            self._settle()

        self._recall.look(self._recall_count, arrived)

    def catch_up(self, name: str, until: int = 0) -> list[Entry]:
        """Fetch what was missed, and put it before our entry of number `until`, 0: at the end.

        Returns a list that will have what is new.
        """
        missed: list[Entry] = []

        def arrived(new: list[tuple[Talk, list[Entry]]]) -> None:
            for talk, entries in new:
                for entry in entries:
                    self._read(talk, entry, name)
                self._announce(Recalled(talk, entries, is_news=True))
                missed.extend(entries)
            self._find_unsure()
            if until:
                self._settle()

        rooms = [talk.name for talk in self._talks if talk.is_entered]
        self._recall.catch_up(rooms, until or self._talks.next_number, arrived)
        return missed

    def has_shown(self, message: Message) -> bool:
        """Say whether catching up has brought this message, which comes a second time now."""
        for entry in self._twice:
            if not (message.room or entry.room or entry.is_mine) and (
                (key_of(entry.sender.removeprefix(GUEST)), entry.text)
                == (key_of(message.sender), message.text)
            ):
                self._twice.remove(entry)
                return True
        return False

    def _come_back(self, name: str) -> None:
        self._twice = self.catch_up(name, self._arrived)
        self._timers.after(_TWICE_SECONDS, "twice", self._forget_twice)

    def _mark(self) -> None:
        self._recall.mark()
        self._timers.after(MARK_SECONDS, "mark", self._mark)

    def _forget_twice(self) -> None:
        self._twice = []

    def _read(self, talk: Talk, entry: Entry, name: str) -> None:
        if not entry.is_mine:
            entry.is_mention = mentions(entry.text, name)
            self._talks.count_unread(talk, entry)
            self._company.meet(entry.sender.removeprefix(GUEST))

    def _find_unsure(self) -> None:
        """Messages that may have arrived, and are in the history, have arrived."""
        for talk in self._talks:
            for entry in talk.entries:
                if entry.state is State.UNSURE and entry.row_id:
                    entry.state = State.STORED
                    self._announce(Changed(entry))

    def _settle(self) -> None:
        self._timers.drop("settle")
        self.is_settling = False
        for entry in self._mailbag.settle():
            self._announce(Changed(entry))
