"""What somebody may read of the tail: the newest messages, which are in no table yet.

It is gone through body by body, and no further than who asks wants to know: who has said much is
answered from a few of them. In each only sections are looked at that are found by a search for
bytes, 1 or 2 ms for a megabyte. It is long for seconds only, after a flood (`historian.upkeep`).
What was tried instead: to remember, or to store, who has to do with each body, in order to leave
others out. To find that out costs three times as much as to go through it once.

Called by `reading` and `search`, inside a snapshot of theirs. Raises sqlite3.Error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.history import tail
from prefork_chat.history.sorting import numbers_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from prefork_chat.history.reading import Part, People, Range, Row
    from prefork_chat.history.tail import Sender


def read_tail(
    people: People, parts: Sequence[Part], wanted: Range, words: Collection[str] = ()
) -> Iterator[Row]:
    """Give what these parts have of the tail, in the order of the range; all of it.

    Bodies that surely have not all of `words` (see `search.tokens`) are left out.
    """
    traces = [trace for part in parts for trace in _traces(people, part)]
    listed = people.connection.execute(
        "SELECT first, time FROM tail WHERE first + count > ? AND (first < ? OR NOT ?) "
        f"ORDER BY first {wanted.order}",
        (wanted.after + 1, wanted.before, wanted.before),
    ).fetchall()  # lest a look that is broken off keep the snapshot
    for first, time_ms in listed:
        found = people.connection.execute("SELECT body FROM tail WHERE first = ?", (first,))
        (body,) = found.fetchone()
        lowered = body.lower()
        if _may_have(lowered, words):
            some = tail.select(first, body, lowered, traces)
            rows = list(_rows(people, parts, wanted, time_ms, some))
            yield from rows if wanted.after else reversed(rows)


def _traces(people: People, part: Part) -> tuple[bytes, ...]:
    """Return by what all is found that a part is about: by one of those whom it is about."""
    number = next(number for number in reversed(part) if number in people.keys)
    return tail.traces(number, people.keys[number].encode())


def _may_have(lowered: bytes, words: Collection[str]) -> bool:
    """Say whether there may be all of these words in a body."""
    # What is not ASCII may be written in several ways, and some of them are read as ASCII.
    return not lowered.isascii() or all(word.encode() in lowered for word in words)


def _rows(
    people: People,
    parts: Sequence[Part],
    wanted: Range,
    time_ms: int,
    some: Iterator[tuple[int, Sender, int, list[bytes]]],
) -> Iterator[Row]:
    """Give what these parts have of sections of a body, in order of the ids."""
    sought = [frozenset(part) for part in parts]
    for first_id, speaker, room, lines in some:
        sender = people.speaker(speaker)
        for id_, line in enumerate(lines, start=first_id):
            recipient, text = (room, line) if room else _addressed(people, line)
            those = frozenset(numbers_of(room, sender, recipient))
            if wanted.has(id_) and any(part <= those for part in sought):
                written, who = people.name(sender), people.keys[sender]
                yield id_, time_ms, written, who, people.name(recipient), text.decode()


def _addressed(people: People, line: bytes) -> tuple[int, bytes]:
    """Return whom a line is for, and its text."""
    name, text = tail.words(line)
    return people.number(name.decode().lower()), text
