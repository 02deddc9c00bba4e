"""The mailbag: our messages on their way, and what is known about each.

Called by `conversation`. It decides how many messages are under way at a time, when one that was
refused because its receiver is slow is tried again, and what becomes of those whose answer the
connection took with it. Answers are matched by tag.

A message is written when fewer than `WINDOW` are unanswered, so a paste of any length goes at the
pace at which the server takes it, and nothing is lost if the connection breaks in the middle. A
refusal that asks to slow down (`BUSY`, `RATE`) puts the message back in its place, and from then on
that receiver gets one at a time, so that order is kept; after `_TRIES` the refusal stands.

Every message is in exactly one of: `waiting` (not written), `_under_way` (written, not answered),
`doubtful` (the connection broke before the answer came), or has a final state and is gone. Owned by
a `Conversation`.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from prefork_chat.client.entries import Entry, State
from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.client.wire import Answer

WINDOW: Final = 16
"""Messages without an answer: enough for 300 a second at a round trip of 50 ms."""

_TRIES: Final = 10
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SLOW_DOWN: Final = frozenset({"BUSY", "RATE"})


@dataclass(slots=True, eq=False)
class Letter:
    """One message on its way."""

    entry: Entry
    tag: str = ""
    tries: int = 0


@dataclass(slots=True, eq=False)
class _Receiver:
    """How one receiver takes our messages; `pause_seconds` is 0 until it asks to slow down."""

    under_way: int = 0
    pause_seconds: float = 0.0
    blocked_until: float = 0.0


@dataclass(slots=True, eq=False)
class Mailbag:
    """All messages without a final state. `next_tag` gives each writing a tag of its own."""

    next_tag: Callable[[], str]
    waiting: list[Letter] = field(default_factory=list)
    doubtful: list[Letter] = field(default_factory=list)
    _under_way: dict[str, Letter] = field(default_factory=dict)
    _receivers: dict[str, _Receiver] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many messages have no final state."""
        return len(self.waiting) + len(self.doubtful) + len(self._under_way)

    @property
    def under_way(self) -> int:
        """How many are written and not answered."""
        return len(self._under_way)

    def add(self, entry: Entry) -> None:
        """Take a message of ours, whose state becomes WAITING; entries are added in their order."""
        entry.state = State.WAITING
        self.waiting.append(Letter(entry))

    def write(self, now: float) -> list[str]:
        """Return the lines that go out now; their messages are SENT."""
        lines: list[str] = []
        kept: list[Letter] = []
        held: set[str] = set()
        for index, letter in enumerate(self.waiting):
            if len(self._under_way) >= WINDOW:
                kept += self.waiting[index:]
                break
            key = key_of(letter.entry.to)
            receiver = self._receivers.setdefault(key, _Receiver())
            if key in held or not _may_have_one(receiver, now):
                held.add(key)
                kept.append(letter)
                continue
            letter.tag = self.next_tag()
            letter.tries += 1
            letter.entry.state = State.SENT
            receiver.under_way += 1
            self._under_way[letter.tag] = letter
            lines.append(f"@{letter.tag} CHAT {letter.entry.to} {letter.entry.text}")
        self.waiting = kept
        return lines

    def wake_at(self, now: float) -> float | None:
        """Return when `write` may have more to say, if nothing is answered before; None: never."""
        times = [
            receiver.blocked_until
            for letter in self.waiting
            if (receiver := self._receivers.get(key_of(letter.entry.to)))
            and receiver.blocked_until > now
        ]
        return min(times, default=None)

    def answered(self, answer: Answer, now: float) -> Entry | None:
        """Note what the server says about one message; return its entry, None if it is not ours.

        An answer to a message that has become doubtful meanwhile counts, too.
        """
        letter = self._take(answer.tag)
        if letter is None:
            return None
        entry = letter.entry
        receiver = self._receivers.setdefault(key_of(entry.to), _Receiver())
        if answer.is_ok:
            if receiver.pause_seconds:  # one at a time, from now on
                receiver.pause_seconds = _FIRST_PAUSE_SECONDS / 2
            _delivered(entry, answer.text)
        elif answer.code in _SLOW_DOWN and letter.tries < _TRIES:
            pause = receiver.pause_seconds * 2 or _FIRST_PAUSE_SECONDS
            receiver.pause_seconds = min(pause, _LONGEST_PAUSE_SECONDS)
            receiver.blocked_until = now + receiver.pause_seconds
            entry.state = State.WAITING
            insort(self.waiting, letter, key=_place)
        else:
            entry.state = State.UNSURE if answer.code == "UNSURE" else State.FAILED
            entry.reason = answer.text
        return entry

    def lose_answers(self) -> list[Entry]:
        """Make all that is under way doubtful: its answers will not come. Return the entries."""
        lost = sorted(self._under_way.values(), key=_place)
        self.doubtful += lost
        self._under_way.clear()
        self._receivers.clear()
        return [letter.entry for letter in lost]

    def settle(self) -> list[Entry]:
        """Decide about all that is doubtful, after the history has been asked; return the entries.

        What has a row there is STORED. The rest is sent again, once: what was a repetition already
        is UNSURE.
        """
        settled = [letter.entry for letter in self.doubtful]
        for letter in self.doubtful:
            entry = letter.entry
            if entry.row_id:
                entry.state = State.STORED
            elif entry.is_repeated:
                entry.state = State.UNSURE
                entry.reason = "the connection broke twice before an answer came"
            else:
                entry.is_repeated = True
                entry.state = State.WAITING
                letter.tries = 0
                insort(self.waiting, letter, key=_place)
        self.doubtful = []
        return settled

    def give_up(self, reason: str) -> list[Entry]:
        """End all that is left, because there will be no connection; return the entries."""
        letters = [*self._under_way.values(), *self.doubtful, *self.waiting]
        for letter in letters:
            was_written = letter.entry.state is State.SENT or letter.entry.is_repeated
            letter.entry.state = State.UNSURE if was_written else State.FAILED
            letter.entry.reason = reason
        self._under_way.clear()
        self.waiting, self.doubtful = [], []
        return [letter.entry for letter in letters]

    def _take(self, tag: str) -> Letter | None:
        letter = self._under_way.pop(tag, None)
        if letter is not None:
            self._receivers[key_of(letter.entry.to)].under_way -= 1
            return letter
        for index, doubtful in enumerate(self.doubtful):
            if doubtful.tag == tag:
                return self.doubtful.pop(index)
        return None


def _may_have_one(receiver: _Receiver, now: float) -> bool:
    if receiver.blocked_until > now:
        return False
    return not (receiver.pause_seconds and receiver.under_way)


def _place(letter: Letter) -> int:
    return letter.entry.number


def _delivered(entry: Entry, fields: str) -> None:
    words = fields.split()
    entry.state = State.STORED if "stored" in words[1:] else State.DELIVERED
    for word in words[1:]:
        if word.startswith("n=") and word[2:].isascii() and word[2:].isdigit():
            entry.reached = int(word[2:])
