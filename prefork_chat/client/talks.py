"""Talks: with whom and where we have been talking, what was said there, what is unread.

A talk is a room or a person; entries that belong to none (what the server says at the start) are in
the talk without a name. Exactly one is current: what is typed goes there, and what comes there has
been read. Owned by a `Conversation`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from prefork_chat.client.entries import Entry, Kind, State
from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_chat.client.wire import Row

_MOST_ENTRIES: Final = 5000
"""More than a person scrolls; what falls out of it can come back from the history."""
_AT_A_TIME: Final = 500

GUEST: Final = "~"
"""Before a sender in the history: a guest, whose name may have been anybody's."""


@dataclass(slots=True, eq=False)
class Talk:
    """One room or person. `name` as first seen; `entries` in the order in which they are shown."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    unread: int = 0
    mentions: int = 0
    is_entered: bool = False
    """Of a room: we want to be in it, and enter it again after each reconnect."""
    is_complete: bool = False
    """The history has nothing older than the first entry."""
    members: dict[str, str] = field(default_factory=dict)
    """Of a room: who is there, by key."""
    is_counted: bool = False
    """Of a room: the server has listed the members, so that others are news."""

    @property
    def is_room(self) -> bool:
        """Whether it is a room."""
        return self.name.startswith("#")

    @property
    def oldest_row(self) -> int:
        """The smallest id of the history that is here; 0 if none is."""
        return min((entry.row_id for entry in self.entries if entry.row_id), default=0)


class Talks:
    """All talks of a conversation, in the order in which they began."""

    def __init__(self) -> None:
        self._by_key: dict[str, Talk] = {"": Talk("")}
        self.current: Talk = self._by_key[""]
        self._numbers = 0

    def __iter__(self) -> Iterator[Talk]:
        """Yield all but the one without a name."""
        return (talk for talk in self._by_key.values() if talk.name)

    @property
    def next_number(self) -> int:
        """The number that the next entry will have."""
        return self._numbers + 1

    def get(self, name: str) -> Talk:
        """Return the talk of this name; it begins if there was none."""
        return self._by_key.setdefault(key_of(name), Talk(name))

    def find(self, name: str) -> Talk | None:
        """Return the talk of this name, if there is one."""
        return self._by_key.get(key_of(name))

    def enter(self, name: str) -> Talk:
        """Make this talk the current one; nothing of it is unread then."""
        self.current = self.get(name)
        self.current.unread = self.current.mentions = 0
        return self.current

    def forget(self, name: str) -> None:
        """Drop a talk; another one is current then."""
        dropped = self._by_key.pop(key_of(name), None)
        if dropped is self.current:
            self.enter(next((talk.name for talk in self), ""))

    def add(self, talk: Talk, entry: Entry) -> None:
        """Put an entry at the end of a talk."""
        self._number(entry)
        talk.entries.append(entry)
        if entry.kind is Kind.MESSAGE and not entry.is_mine and not entry.is_old:
            self.count_unread(talk, entry)
        if len(talk.entries) > _MOST_ENTRIES:
            del talk.entries[:_AT_A_TIME]
            talk.is_complete = False

    def count_unread(self, talk: Talk, entry: Entry) -> None:
        """Count an entry as unread, unless its talk is the current one."""
        if talk is not self.current:
            talk.unread += 1
            talk.mentions += entry.is_mention or not talk.is_room

    def catch_up(
        self,
        talk: Talk,
        fresh: Sequence[Entry],
        since: int,
        until: int,
        most_skew_seconds: float = inf,
    ) -> list[Entry]:
        """Merge what the history has from the time after our last look; return what is new.

        `fresh`: entries made of rows, ids ascending. Those that we know already, among our entries
        from number `since` on, give these their id. The others are put before the first entry of
        number `until` or later: what came after the new connection. Messages that are known to have
        arrived are matched before those whose fate is open, so that no row speaks for two; nor does
        one speak for such a message that is older than it, by more than clocks differ.
        """
        known = {entry.row_id for entry in talk.entries if entry.row_id}
        without_row: dict[tuple[str, str], list[Entry]] = {}
        for entry in talk.entries:
            if entry.number >= since and _may_have_a_row(entry):
                without_row.setdefault(_likeness(entry), []).append(entry)
        for alike in without_row.values():
            alike.sort(key=lambda entry: entry.state in (State.SENT, State.UNSURE))
        missed = []
        for entry in fresh:
            if entry.row_id in known:
                continue
            known.add(entry.row_id)
            alike = without_row.get(_likeness(entry), [])
            if alike and not _is_later(alike[0], entry, most_skew_seconds):
                alike.pop(0).row_id = entry.row_id
            else:
                missed.append(entry)
        place = len(talk.entries)
        while place and talk.entries[place - 1].number >= until:
            place -= 1
        self._insert(talk, place, missed)
        return missed

    def page_back(self, talk: Talk, fresh: Sequence[Entry]) -> list[Entry]:
        """Merge an older page of the history; return what is new.

        `fresh`: entries made of rows, ids ascending. They are looked for among ours from the end
        back; one that is not there is put before the one that followed it in the history, or, if
        none did, where its time belongs.
        """
        positions = {entry.row_id: i for i, entry in enumerate(talk.entries) if entry.row_id}
        without_row: dict[tuple[str, str], list[int]] = {}
        for index, entry in enumerate(talk.entries):
            if _may_have_a_row(entry):
                without_row.setdefault(_likeness(entry), []).append(index)
        limit: int | None = None  # the index of what follows in the history
        missed: list[tuple[int, Entry]] = []
        for entry in reversed(fresh):
            if entry.row_id in positions:
                limit = positions[entry.row_id]
                continue
            alike = without_row.get(_likeness(entry), [])
            while alike and limit is not None and alike[-1] >= limit:
                alike.pop()
            if alike:
                limit = alike.pop()
                talk.entries[limit].row_id = entry.row_id
            else:
                place = _place_in_time(talk.entries, entry) if limit is None else limit
                missed.append((min(place, missed[-1][0]) if missed else place, entry))
        for index, entry in missed:  # descending: nothing that is still to be put in is moved
            self._insert(talk, index, [entry])
        return [entry for _, entry in reversed(missed)]

    def _insert(self, talk: Talk, index: int, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._number(entry)
        talk.entries[index:index] = entries

    def _number(self, entry: Entry) -> None:
        self._numbers += 1
        entry.number = self._numbers


def entry_of(row: Row, name: str) -> Entry:
    """Return a row of the history as an entry, for the one whose own name is `name`."""
    return Entry(
        kind=Kind.MESSAGE,
        time=row.time,
        text=row.text,
        sender=row.sender,
        to=row.to,
        is_mine=key_of(row.sender) == key_of(name),
        is_old=True,
        row_id=row.id,
    )


def talk_name(entry: Entry) -> str:
    """Return the name of the talk that a message belongs to."""
    if entry.to.startswith("#") or entry.is_mine:
        return entry.to
    return entry.sender.removeprefix(GUEST)


def _likeness(entry: Entry) -> tuple[str, str]:
    return key_of(entry.sender.removeprefix(GUEST)), entry.text


def _is_later(entry: Entry, row: Entry, most_skew_seconds: float) -> bool:
    """Say whether a message of ours was written after the row that is like it."""
    is_open = entry.state in (State.SENT, State.UNSURE)
    return is_open and entry.time > row.time + most_skew_seconds


def _may_have_a_row(entry: Entry) -> bool:
    """Say whether the history may have a message whose id we do not know."""
    return (
        entry.kind is Kind.MESSAGE
        and not entry.row_id
        and entry.state not in (State.WAITING, State.FAILED)
    )


def _place_in_time(entries: Sequence[Entry], entry: Entry) -> int:
    return next((i for i, other in enumerate(entries) if other.time > entry.time), len(entries))
