"""Recall: what the server's history is asked for, and where its rows go.

Called by `conversation` when it has joined, when it has come back, when something was missed, and
when a person scrolls beyond what is here. A server without a history, or a name without a password,
answers ERR: then `is_offered` is False and nothing more is asked until `try_again`.

*Catching up* asks for what came after a row that was surely the last one that we had. A message
that arrives over the connection has no id, so that row is found by asking for the newest id now and
then, and trusting an answer only when the next one has come, a minute later: by then all before it
has arrived. `_Mark.number` says likewise from which of our entries on a row may be one that we have
already. Owned by a `Conversation`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from prefork_chat.client.talks import entry_of, talk_name
from prefork_chat.client.wire import Row, parse_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prefork_chat.client.entries import Entry
    from prefork_chat.client.requests import Reply, Then
    from prefork_chat.client.talks import Talk, Talks

MARK_SECONDS: Final = 60.0
"""How often the newest id is asked for, if anything was said since."""

_PAGE: Final = 100
_MOST_SKEW_SECONDS: Final = 60.0
"""As far as our clock may be ahead of the server's."""
_MOST_PAGES: Final = 20
"""Who was away for longer than 2,000 messages pages back himself."""


class _Mark(NamedTuple):
    """The newest `row` at some time, and the `number` that our next entry had then."""

    row: int
    number: int


@dataclass(slots=True, eq=False)
class _Errand:
    """One catching-up: places still to be asked, rows so far, where new ones go."""

    places: list[str]
    since: _Mark
    asked_at: int
    until: int
    then: Callable[[list[tuple[Talk, list[Entry]]]], None]
    rows: dict[int, Row]
    pages: int = 0
    is_plain: bool = False
    """The server does not know `after=`."""


class Recall:
    """What we know of the history. `ask` sends a command; `name` returns our own name."""

    def __init__(
        self, talks: Talks, ask: Callable[[str, Then], None], name: Callable[[], str]
    ) -> None:
        self._talks = talks
        self._ask = ask
        self._name = name
        self._marks: deque[_Mark] = deque(maxlen=3)
        self._paging: set[str] = set()
        self.is_offered: bool | None = None

    def try_again(self) -> None:
        """Ask again, although the history was refused before: something has changed."""
        if self.is_offered is False:
            self.is_offered = None

    @property
    def has_mark(self) -> bool:
        """Whether it is known where catching up begins."""
        return bool(self._marks)

    def connection_lost(self) -> None:
        """Expect no answers any more."""
        self._paging.clear()

    def look(self, count: int, then: Callable[[list[tuple[Talk, list[Entry]]]], None]) -> None:
        """Fetch the newest `count` rows, for the first time; `then` gets those that are new.

        With 0 it is the newest one, to know where catching up begins.
        """
        if self.is_offered is False:
            then([])
            return

        def answered(reply: Reply) -> None:
            rows = self._rows(reply)
            newest = max((row.id for row in rows), default=0)
            if reply.answer.is_ok and not self._marks:
                self._marks.extend([_Mark(newest, 0)] * 3)
            then(self._merge(rows, 0, 0, _MOST_SKEW_SECONDS))

        self._ask(f"HIST {max(count, 1)}", answered)

    def mark(self) -> None:
        """Ask for the newest id, so that catching up begins there some time from now."""
        if not self.is_offered or not self._marks:
            return
        number = self._talks.next_number
        if number == self._marks[-1].number:
            return

        def answered(reply: Reply) -> None:
            rows = self._rows(reply)
            if rows:
                self._marks.append(_Mark(rows[-1].id, number))

        self._ask("HIST 1", answered)

    def catch_up(
        self,
        rooms: Iterable[str],
        until: int,
        then: Callable[[list[tuple[Talk, list[Entry]]]], None],
    ) -> None:
        """Fetch what was said meanwhile, to us and in `rooms`; `then` gets what is new, by talk.

        New entries stand before the first one with the number `until` or later.
        """
        if self.is_offered is False or not self._marks:
            then([])
            return
        since = _Mark(self._marks[1].row, self._marks[0].number)
        number = self._talks.next_number
        self._go_on(_Errand(["", *rooms], since, number, until, then, {}))

    def page_back(self, talk: Talk, count: int, then: Callable[[list[Entry], str], None]) -> None:
        """Fetch `count` rows from before what is here of a talk.

        `then` gets what is new, and why there is nothing, if the server says so. While an answer is
        awaited for the same talk, nothing happens.
        """
        if talk.name in self._paging:
            return
        self._paging.add(talk.name)
        before = f" before={talk.oldest_row}" if talk.oldest_row else ""

        def answered(reply: Reply) -> None:
            self._paging.discard(talk.name)
            rows = _read_rows(reply)
            if not reply.answer.is_ok:
                then([], reply.answer.text)
                return
            fresh = self._entries(rows)
            new = self._talks.page_back(talk, fresh)
            talk.is_complete = not rows or not _has_more(reply)
            then(new, "")

        self._ask(f"HIST {talk.name} {count}{before}", answered)

    def find(self, words: str, then: Callable[[list[Entry], str], None]) -> None:
        """Search; `then` gets what was found, and why nothing, if the server says so."""

        def answered(reply: Reply) -> None:
            rows = [row for fields in reply.data if (row := parse_row(fields))]
            then(self._entries(rows), "" if reply.answer.is_ok else reply.answer.text)

        self._ask(f"FIND {words}", answered)

    def _go_on(self, errand: _Errand) -> None:
        if errand.places:
            self._fetch(errand, errand.since.row)
            return
        newest = max([*errand.rows, errand.since.row, self._marks[-1].row])
        self._marks.append(_Mark(newest, errand.asked_at))
        rows = sorted(errand.rows.values(), key=lambda row: row.id)
        errand.then(self._merge(rows, errand.since.number, errand.until))

    def _fetch(self, errand: _Errand, after: int, before: int = 0) -> None:
        """Ask for a page of the first place: upwards from `after`, or from the newest one back."""
        place = errand.places[0]
        has_bound = after > 0 and not errand.is_plain  # no message has the id 0
        bound = f"after={after}" if has_bound else f"before={before}" if before else ""
        words = ["HIST", place, str(_PAGE), bound]

        def answered(reply: Reply) -> None:
            if reply.answer.code == "BADARGS" and has_bound:
                errand.is_plain = True
                self._fetch(errand, after)
                return
            rows = self._rows(reply) if not place else _read_rows(reply)
            fresh = {row.id: row for row in rows if row.id > errand.since.row}
            errand.rows |= fresh
            errand.pages += 1
            if fresh and _has_more(reply) and errand.pages < _MOST_PAGES:
                if has_bound:
                    self._fetch(errand, max(fresh))
                    return
                if len(fresh) == len(rows):  # else this page has reached what we know
                    self._fetch(errand, after, min(fresh))
                    return
            errand.places.pop(0)
            errand.pages = 0
            self._go_on(errand)

        self._ask(" ".join(word for word in words if word), answered)

    def _rows(self, reply: Reply) -> list[Row]:
        """Return the rows of an answer by id, and note whether there is a history for us."""
        if reply.answer.is_ok:
            self.is_offered = True
        elif reply.answer.code != "BUSY":
            self.is_offered = False
        return _read_rows(reply)

    def _entries(self, rows: Iterable[Row]) -> list[Entry]:
        name = self._name()
        return [entry_of(row, name) for row in rows]

    def _merge(
        self, rows: Sequence[Row], since: int, until: int, most_skew_seconds: float = inf
    ) -> list[tuple[Talk, list[Entry]]]:
        by_talk: dict[Talk, list[Entry]] = {}
        for entry in self._entries(rows):
            by_talk.setdefault(self._talks.get(talk_name(entry)), []).append(entry)
        return [
            (talk, new)
            for talk, fresh in by_talk.items()
            if (new := self._talks.catch_up(talk, fresh, since, until, most_skew_seconds))
        ]


def _read_rows(reply: Reply) -> list[Row]:
    rows = (parse_row(fields) for fields in reply.data)
    return sorted((row for row in rows if row), key=lambda row: row.id)


def _has_more(reply: Reply) -> bool:
    return "more=1" in reply.answer.text.split()
