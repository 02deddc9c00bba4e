"""The account of a crowd: who said what to whom, what arrived, what was answered, what is wrong.

Pure: no socket, clock or chance. The crowd enters every command that it sends and every byte that
it gets; the account finds a message that was lost, delivered twice, out of order, torn, merged with
another or changed, a command that was answered never, twice or with something else, an answer that
contradicts what happened, and a connection that ended without a reason.

How: each message is unlike any other, so the whole line that has to arrive is known when it is said
and stands in its receiver's table until it comes; so does the whole answer in its sender's. What
comes and stands in no table is wrong, and its checksum says in which way. One dictionary look-up a
line: an account keeps up with 200,000 lines a second.
"""

from __future__ import annotations

import enum
import zlib
from collections import Counter, deque
from typing import Final, NamedTuple

_EXAMPLES: Final = 20
"""Wrong lines that are kept word for word, of each kind."""

_MOST_PEOPLE: Final = 1_000_000

_FILLER: Final = b"the quick brown fox jumps over the lazy dog and back " * 20


class Trouble(enum.Enum):
    """What can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    GARBLED = "garbled"
    UNANSWERED = "unanswered"
    MISANSWERED = "misanswered"
    CONTRADICTED = "contradicted"
    REFUSED = "refused"
    UNSURE = "unsure"
    DISCONNECTED = "disconnected"


class Sent(NamedTuple):
    """A tagged message that waits for its answer: who gets it, and the line that he gets."""

    receiver: Person
    line: bytes


class Person:
    """One client as the account knows it. Owner: the account.

    `arriving`: lines that have to come, with their sender (or the stream of what he says in a room)
    and his number for them. `awaited` and `untagged`: whole answers to CHAT that have to come;
    `in_order`: those to other commands. `refused`: lines that must not come, for the sender was
    told so; `unsure`: lines that may come.
    `not_coming` and `maybe_coming`: by sender, how many of the untagged lines in `arriving`.
    """

    __slots__ = (
        "arriving",
        "awaited",
        "in_order",
        "latest",
        "maybe_coming",
        "name",
        "not_coming",
        "number",
        "open",
        "partial",
        "refused",
        "said",
        "unsure",
        "untagged",
    )

    def __init__(self, number: int, name: bytes) -> None:
        self.number: Final = number
        self.name: Final = name
        self.said = 0
        self.open = 0
        self.partial = b""
        self.arriving: Final[dict[bytes, tuple[int, int]]] = {}
        self.awaited: Final[dict[bytes, Sent]] = {}
        self.untagged: Final[dict[bytes, int]] = {}
        self.in_order: Final[deque[bytes]] = deque()
        self.latest: Final[dict[int, int]] = {}
        self.refused: Final[set[bytes]] = set()
        self.unsure: Final[set[bytes]] = set()
        self.not_coming: Final[Counter[int]] = Counter()
        self.maybe_coming: Final[Counter[int]] = Counter()

    @property
    def is_settled(self) -> bool:
        """True when all that has to come has come."""
        if self.open or self.partial:
            return False
        return not self.arriving or (
            len(self.arriving) <= self.not_coming.total() + self.maybe_coming.total()
        )


class Account:
    """The account of everybody together.

    `delivered`, `accepted` and `answered` count messages, messages answered OK, and answers to
    other commands; `refusals` those answered ERR, by code.
    """

    def __init__(
        self, tolerated: frozenset[bytes] = frozenset(), *, is_ordered: bool = True
    ) -> None:
        """`tolerated`: codes of `ERR CHAT` that are no trouble here, such as BUSY.

        `is_ordered`: whether one message may not overtake another of its sender.
        """
        self.people: Final[list[Person]] = []
        self.delivered = 0
        self.accepted = 0
        self.answered = 0
        self.refusals: Final[Counter[bytes]] = Counter()
        self.troubles: Final[Counter[Trouble]] = Counter()
        self.examples: Final[list[str]] = []
        self._rooms: Final[dict[bytes, list[Person]]] = {}
        self._tolerated: Final = tolerated
        self._is_ordered: Final = is_ordered

    def enter(self, name: bytes) -> Person:
        """Enter a person, who must not have the name of another one who is there."""
        person = Person(len(self.people), name)
        self.people.append(person)
        return person

    def enter_room(self, person: Person, room: bytes) -> bytes:
        """Enter a person in a room, in which he stays; return the command by which he does it."""
        members = self._rooms.setdefault(room, [])
        members.append(person)
        answer = b"OK ENTR %b n=%d" % (room, len(members))
        return self.command(person, b"ENTR " + room, answer)

    # Saying

    def compose(
        self, sender: Person, receiver: Person, filler_bytes: int, *, is_tagged: bool
    ) -> bytes:
        """Return the next CHAT of `sender` for `receiver`, and expect what must come of it."""
        number = sender.said
        sender.said = number + 1
        text = _text(sender.name, receiver.name, number, filler_bytes)
        line = b"CHAT %b %b" % (sender.name, text)
        receiver.arriving[line] = (sender.number, number)
        sender.open += 1
        if is_tagged:
            sender.awaited[b"@%d OK CHAT %b" % (number, receiver.name)] = Sent(receiver, line)
            return b"@%d CHAT %b %b\n" % (number, receiver.name, text)
        answer = b"OK CHAT " + receiver.name
        sender.untagged[answer] = sender.untagged.get(answer, 0) + 1
        return b"CHAT %b %b\n" % (receiver.name, text)

    def compose_for_room(
        self, sender: Person, room: bytes, filler_bytes: int, *, is_tagged: bool
    ) -> bytes:
        """Return the next CHAT of `sender` for his room, and expect what must come of it."""
        number = sender.said
        sender.said = number + 1
        text = _text(sender.name, room, number, filler_bytes)
        line = b"CHAT %b %b %b" % (room, sender.name, text)
        others = [member for member in self._rooms[room] if member is not sender]
        # Order is kept within a room: what one says there is a stream of its own.
        stream = sender.number - _MOST_PEOPLE * (1 + list(self._rooms).index(room))
        for other in others:
            other.arriving[line] = (stream, number)
        sender.open += 1
        answer = b"OK CHAT %b n=%d" % (room, len(others))
        if is_tagged:
            sender.awaited[b"@%d %b" % (number, answer)] = Sent(sender, line)
            return b"@%d CHAT %b %b\n" % (number, room, text)
        sender.untagged[answer] = sender.untagged.get(answer, 0) + 1
        return b"CHAT %b %b\n" % (room, text)

    def command(self, person: Person, line: bytes, answer: bytes) -> bytes:
        """Expect `answer` to a command that is no CHAT; return the command with its line end."""
        person.in_order.append(answer)
        person.open += 1
        return line + b"\n"

    # Hearing

    def hear(self, person: Person, data: bytes) -> None:
        """Enter bytes that have come to `person`."""
        if person.partial:
            data = person.partial + data
        lines = data.split(b"\n")
        person.partial = lines.pop()
        arriving = person.arriving
        latest = person.latest
        for line in lines:
            expected = arriving.pop(line, None)
            if expected is None:
                self._take_answer(person, line)
                continue
            sender, number = expected
            if number < latest.get(sender, 0) and self._is_ordered:
                self._complain(Trouble.REORDERED, person, line)
            latest[sender] = number
            self.delivered += 1

    def end(self, person: Person, *, is_expected: bool) -> None:
        """Enter that the connection of `person` has ended: as it had to, or not."""
        if person.partial:
            self._complain(Trouble.GARBLED, person, b"at the end: " + person.partial)
            person.partial = b""
        if not is_expected:
            self._complain(Trouble.DISCONNECTED, person, b"")

    def _take_answer(self, person: Person, line: bytes) -> None:
        if person.awaited.pop(line, None) is not None:
            self.accepted += 1
        elif count := person.untagged.get(line, 0):
            person.untagged[line] = count - 1
            self.accepted += 1
        elif person.in_order and line == person.in_order[0]:
            person.in_order.popleft()
            self.answered += 1
        else:
            self._take_other(person, line)
            return
        person.open -= 1

    def _take_other(self, person: Person, line: bytes) -> None:
        """Enter a line that is neither a message nor the answer that one hopes for."""
        tag, words = _without_tag(line)
        if words[:2] == [b"ERR", b"CHAT"] and len(words) > 3:
            self._take_refusal(person, line, tag, words[2], words[3])
        elif words[:1] == [b"CHAT"] and len(words) > 2:
            self._take_strange_message(person, line)
        else:
            self._complain(Trouble.MISANSWERED, person, line)

    def _take_refusal(
        self, person: Person, line: bytes, tag: bytes, code: bytes, receiver: bytes
    ) -> None:
        answer = tag + b"OK CHAT " + receiver
        sent = person.awaited.pop(answer, None)
        if sent is None and not person.untagged.get(answer):
            self._complain(Trouble.MISANSWERED, person, line)
            return
        person.open -= 1
        self.refusals[code] += 1
        is_unsure = code == b"UNSURE"
        if code not in self._tolerated:
            self._complain(Trouble.UNSURE if is_unsure else Trouble.REFUSED, person, line)
        if sent is None:
            person.untagged[answer] -= 1
            there = self._find(receiver)
            (there.maybe_coming if is_unsure else there.not_coming)[person.number] += 1
        elif sent.receiver.arriving.pop(sent.line, None) is not None:
            (sent.receiver.unsure if is_unsure else sent.receiver.refused).add(sent.line)
        elif not is_unsure:
            self._complain(Trouble.CONTRADICTED, person, line)

    def _find(self, name: bytes) -> Person:
        return next(person for person in reversed(self.people) if person.name == name)

    def _take_strange_message(self, person: Person, line: bytes) -> None:
        """Say what is wrong with a message that nobody expected."""
        _, sender, text = line.split(b" ", 2)
        receiver = person.name
        if sender.startswith(b"#"):
            receiver = sender
            sender, _, text = text.partition(b" ")
        number, _, filler = text.partition(b":")
        if line in person.unsure:
            person.unsure.remove(line)
            self.delivered += 1
        elif line in person.refused:
            self._complain(Trouble.CONTRADICTED, person, line)
        elif number.isdigit() and text == _text(sender, receiver, int(number), len(filler) - 9):
            self._complain(Trouble.DOUBLED, person, line)
        else:
            self._complain(Trouble.GARBLED, person, line)

    # The end

    def close(self) -> None:
        """Enter what is missing, when nothing comes any more."""
        for person in self.people:
            missing_lines: dict[int, list[bytes]] = {}
            for line, (sender, _) in person.arriving.items():
                missing_lines.setdefault(sender, []).append(line)
            for sender in missing_lines.keys() | person.not_coming.keys():
                lines = missing_lines.get(sender, [])
                least = person.not_coming[sender]
                for line in lines[least + person.maybe_coming[sender] :]:
                    self._complain(Trouble.LOST, person, line)
                for _ in range(least - len(lines)):
                    self._complain(Trouble.CONTRADICTED, person, b"refused, yet delivered")
            missing = [*person.awaited, *person.in_order]
            missing += [answer for answer, count in person.untagged.items() for _ in range(count)]
            for answer in missing:
                self._complain(Trouble.UNANSWERED, person, answer)
            if person.partial:
                self._complain(Trouble.GARBLED, person, b"without its end: " + person.partial)

    def _complain(self, trouble: Trouble, person: Person, line: bytes) -> None:
        self.troubles[trouble] += 1
        if self.troubles[trouble] <= _EXAMPLES:
            name = person.name.decode()
            self.examples.append(
                f"{trouble.value}: {name}: {line[:200].decode('ascii', 'replace')}"
            )


def _text(sender: bytes, receiver: bytes, number: int, filler_bytes: int) -> bytes:
    """Return the text of a message: its number, a checksum of who, whom and number, and filler."""
    checksum = zlib.crc32(b"%b %b %d" % (sender, receiver, number))
    return b"%d:%08x:%b" % (number, checksum, _FILLER[:filler_bytes])


def _without_tag(line: bytes) -> tuple[bytes, list[bytes]]:
    """Return the tag with its space, if there is one, and the words behind it."""
    words = line.split(b" ")
    if words[0].startswith(b"@"):
        return words[0] + b" ", words[1:]
    return b"", words
