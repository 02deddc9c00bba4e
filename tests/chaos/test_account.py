"""The judge itself: whatever can be wrong with a crowd's traffic is found, and nothing else."""

from __future__ import annotations

import pytest

from tests.chaos.account import Account, Person, Trouble

FILLER_BYTES = 20


class Pair:
    """Ann and bob, and an account of them. Nothing has been wrong yet."""

    def __init__(self, *tolerated: bytes, is_ordered: bool = True) -> None:
        self.account = Account(frozenset(tolerated), is_ordered=is_ordered)
        self.ann = self.account.enter(b"ann")
        self.bob = self.account.enter(b"bob")

    def say(self, *, is_tagged: bool = False) -> tuple[bytes, bytes]:
        """Let ann say something; return the line that bob gets, and the answer that ann gets."""
        said = self.account.compose(self.ann, self.bob, FILLER_BYTES, is_tagged=is_tagged)
        tag = said.split(b" ", 1)[0] + b" " if is_tagged else b""
        text = said.removeprefix(tag).removeprefix(b"CHAT bob ")
        return b"CHAT ann " + text, tag + b"OK CHAT bob\n"

    def hear(self, person: Person, *data: bytes) -> None:
        for each in data:
            self.account.hear(person, each)

    def settled(self) -> list[Person]:
        return [person for person in (self.ann, self.bob) if person.is_settled]

    def troubles(self) -> dict[Trouble, int]:
        """Close the account and return what is wrong."""
        self.account.close()
        return dict(self.account.troubles)


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.mark.parametrize("is_tagged", [False, True])
def test_what_arrives_once_and_is_answered_once_is_right(pair: Pair, is_tagged: bool) -> None:
    for _ in range(3):
        line, answer = pair.say(is_tagged=is_tagged)
        pair.hear(pair.bob, line)
        pair.hear(pair.ann, answer)
    assert pair.ann.is_settled
    assert pair.bob.is_settled
    assert pair.troubles() == {}
    assert (pair.account.delivered, pair.account.accepted) == (3, 3)


def test_lines_may_come_in_pieces_of_any_size(pair: Pair) -> None:
    line, answer = pair.say()
    pair.hear(pair.bob, *(line[n : n + 1] for n in range(len(line))))
    pair.hear(pair.ann, *(answer[n : n + 1] for n in range(len(answer))))
    assert pair.troubles() == {}


def test_nothing_is_settled_before_all_has_come(pair: Pair) -> None:
    line, answer = pair.say()
    assert pair.settled() == []
    pair.hear(pair.bob, line[:5])
    assert pair.settled() == []
    pair.hear(pair.bob, line[5:])
    assert pair.settled() == [pair.bob]
    pair.hear(pair.ann, answer)
    assert pair.settled() == [pair.ann, pair.bob]


@pytest.mark.parametrize("is_tagged", [False, True])
def test_an_accepted_message_that_never_comes_is_lost(pair: Pair, is_tagged: bool) -> None:
    _, answer = pair.say(is_tagged=is_tagged)
    pair.hear(pair.ann, answer)
    assert pair.troubles() == {Trouble.LOST: 1}


def test_a_message_that_comes_twice_is_doubled(pair: Pair) -> None:
    line, answer = pair.say()
    pair.hear(pair.ann, answer)
    pair.hear(pair.bob, line, line)
    assert pair.troubles() == {Trouble.DOUBLED: 1}


def test_a_message_that_overtakes_another_of_its_sender_is_found(pair: Pair) -> None:
    first, answer = pair.say()
    second, _ = pair.say()
    pair.hear(pair.bob, second, first)
    pair.hear(pair.ann, answer, answer)
    assert pair.troubles() == {Trouble.REORDERED: 1}


def test_overtaking_can_be_allowed() -> None:
    pair = Pair(is_ordered=False)
    first, answer = pair.say()
    second, _ = pair.say()
    pair.hear(pair.bob, second, first)
    pair.hear(pair.ann, answer, answer)
    assert pair.troubles() == {}


def test_a_message_to_somebody_else_is_found(pair: Pair) -> None:
    line, answer = pair.say()
    pair.hear(pair.ann, answer, line)
    assert pair.troubles() == {Trouble.GARBLED: 1, Trouble.LOST: 1}


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"quick", b"quack"),
        lambda line: line.replace(b"0:", b"7:", 1),
        lambda line: line[:12] + b"\n",
        lambda line: line[:-1] + line,
        lambda line: line[:15] + line,
    ],
    ids=["changed", "renumbered", "cut", "merged", "torn"],
)
def test_a_damaged_message_is_garbled(pair: Pair, damage: object) -> None:
    line, answer = pair.say()
    assert callable(damage)
    pair.hear(pair.ann, answer)
    pair.hear(pair.bob, damage(line))
    assert pair.troubles() == {Trouble.GARBLED: 1, Trouble.LOST: 1}


def test_half_a_line_at_the_end_is_garbled(pair: Pair) -> None:
    line, answer = pair.say()
    pair.hear(pair.ann, answer)
    pair.hear(pair.bob, line, b"CHAT ann")
    pair.account.end(pair.bob, is_expected=True)
    assert pair.troubles() == {Trouble.GARBLED: 1}


@pytest.mark.parametrize("is_tagged", [False, True])
def test_a_command_without_an_answer_is_found(pair: Pair, is_tagged: bool) -> None:
    line, _ = pair.say(is_tagged=is_tagged)
    pair.hear(pair.bob, line)
    assert pair.account.command(pair.ann, b"PING 1", b"OK PING 1") == b"PING 1\n"
    assert pair.troubles() == {Trouble.UNANSWERED: 2}


@pytest.mark.parametrize("is_tagged", [False, True])
def test_a_second_answer_is_found(pair: Pair, is_tagged: bool) -> None:
    line, answer = pair.say(is_tagged=is_tagged)
    pair.hear(pair.bob, line)
    pair.hear(pair.ann, answer, answer)
    assert pair.troubles() == {Trouble.MISANSWERED: 1}


def test_answers_to_other_commands_must_come_in_order(pair: Pair) -> None:
    for n in (b"1", b"2"):
        pair.account.command(pair.ann, b"PING " + n, b"OK PING " + n)
    pair.hear(pair.ann, b"OK PING 2\n", b"OK PING 1\n")
    assert pair.troubles() == {Trouble.MISANSWERED: 1, Trouble.UNANSWERED: 1}


def test_a_note_that_nobody_expects_is_found(pair: Pair) -> None:
    pair.hear(pair.ann, b"NOTE RESUMED\n")
    assert pair.troubles() == {Trouble.MISANSWERED: 1}


def refusal(answer: bytes, code: bytes) -> bytes:
    return answer.replace(b"OK CHAT bob", b"ERR CHAT %b bob reads too slowly" % code)


@pytest.mark.parametrize("is_tagged", [False, True])
def test_a_tolerated_refusal_is_right_if_the_message_does_not_come(is_tagged: bool) -> None:
    pair = Pair(b"BUSY")
    _, answer = pair.say(is_tagged=is_tagged)
    pair.hear(pair.ann, refusal(answer, b"BUSY"))
    assert pair.ann.is_settled
    assert pair.bob.is_settled
    assert pair.troubles() == {}
    assert pair.account.refusals == {b"BUSY": 1}


@pytest.mark.parametrize("is_tagged", [False, True])
@pytest.mark.parametrize("is_early", [False, True])
def test_a_refused_message_that_comes_all_the_same_is_a_contradiction(
    is_tagged: bool, is_early: bool
) -> None:
    pair = Pair(b"BUSY")
    line, answer = pair.say(is_tagged=is_tagged)
    if is_early:
        pair.hear(pair.bob, line)
    pair.hear(pair.ann, refusal(answer, b"BUSY"))
    if not is_early:
        pair.hear(pair.bob, line)
    assert pair.troubles() == {Trouble.CONTRADICTED: 1}


def test_a_refusal_that_is_not_tolerated_is_trouble(pair: Pair) -> None:
    _, answer = pair.say()
    pair.hear(pair.ann, refusal(answer, b"NOUSER"))
    assert pair.troubles() == {Trouble.REFUSED: 1}


@pytest.mark.parametrize("is_tagged", [False, True])
@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("is_early", [False, True])
def test_an_unsure_message_may_come_or_not_but_not_twice(
    is_tagged: bool, times: int, is_early: bool
) -> None:
    pair = Pair(b"UNSURE")
    line, answer = pair.say(is_tagged=is_tagged)
    told = (pair.ann, refusal(answer, b"UNSURE"))
    came = (pair.bob, line * times)
    for each in (came, told) if is_early else (told, came):
        pair.hear(*each)
    assert pair.bob.is_settled
    assert pair.troubles() == ({Trouble.DOUBLED: 1} if times == 2 else {})


def test_an_unsure_answer_that_is_not_tolerated_is_trouble(pair: Pair) -> None:
    _, answer = pair.say()
    pair.hear(pair.ann, refusal(answer, b"UNSURE"))
    assert pair.troubles() == {Trouble.UNSURE: 1}


def test_a_connection_that_ends_without_a_reason_is_found(pair: Pair) -> None:
    pair.account.end(pair.ann, is_expected=True)
    pair.account.end(pair.bob, is_expected=False)
    assert pair.troubles() == {Trouble.DISCONNECTED: 1}


def test_the_first_of_many_troubles_are_told_word_for_word(pair: Pair) -> None:
    for n in range(100):
        pair.hear(pair.ann, b"NOTE %d\n" % n)
    assert pair.troubles() == {Trouble.MISANSWERED: 100}
    assert pair.account.examples[0] == "misanswered: ann: NOTE 0"
    assert len(pair.account.examples) < 100


class Room:
    """Ann, bob and cem in a room, and an account of them. Nothing has been wrong yet."""

    def __init__(self) -> None:
        self.account = Account()
        self.people = [self.account.enter(name) for name in (b"ann", b"bob", b"cem")]
        for n, person in enumerate(self.people, start=1):
            assert self.account.enter_room(person, b"#dev") == b"ENTR #dev\n"
            self.account.hear(person, b"OK ENTR #dev n=%d\n" % n)

    def say(self, *, is_tagged: bool) -> tuple[bytes, bytes]:
        """Let ann say something; return the line that all others get, and the answer."""
        ann = self.people[0]
        said = self.account.compose_for_room(ann, b"#dev", FILLER_BYTES, is_tagged=is_tagged)
        tag = said.split(b" ", 1)[0] + b" " if is_tagged else b""
        text = said.removeprefix(tag).removeprefix(b"CHAT #dev ")
        return b"CHAT #dev ann " + text, tag + b"OK CHAT #dev n=2\n"

    def troubles(self) -> dict[Trouble, int]:
        """Close the account and return what is wrong."""
        self.account.close()
        return dict(self.account.troubles)


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.mark.parametrize("is_tagged", [False, True])
def test_what_reaches_all_others_in_a_room_once_is_right(room: Room, is_tagged: bool) -> None:
    ann, bob, cem = room.people
    for _ in range(3):
        line, answer = room.say(is_tagged=is_tagged)
        for person, data in ((bob, line), (cem, line), (ann, answer)):
            assert not person.is_settled
            room.account.hear(person, data)
    assert all(person.is_settled for person in room.people)
    assert room.troubles() == {}
    assert (room.account.delivered, room.account.accepted) == (6, 3)


def test_a_member_who_is_left_out_or_gets_it_twice_is_found(room: Room) -> None:
    _, bob, cem = room.people
    line, _ = room.say(is_tagged=False)
    for person, data in ((bob, line), (bob, line)):
        room.account.hear(person, data)
    assert not cem.is_settled
    assert room.troubles() == {Trouble.DOUBLED: 1, Trouble.LOST: 1, Trouble.UNANSWERED: 1}


def test_a_sender_who_hears_himself_or_is_told_a_wrong_number_is_found(room: Room) -> None:
    ann, bob, cem = room.people
    line, answer = room.say(is_tagged=True)
    for person, data in ((bob, line), (cem, line), (ann, line), (ann, answer[:-2] + b"3\n")):
        room.account.hear(person, data)
    assert room.troubles() == {
        Trouble.DOUBLED: 1,
        Trouble.MISANSWERED: 1,
        Trouble.UNANSWERED: 1,
    }


def test_a_member_who_gets_lines_of_a_room_out_of_order_is_found(room: Room) -> None:
    _, bob, cem = room.people
    lines = [room.say(is_tagged=False)[0] for _ in range(2)]
    for line in lines:
        room.account.hear(cem, line)
    for line in reversed(lines):
        room.account.hear(bob, line)
    assert room.troubles() == {Trouble.REORDERED: 1, Trouble.UNANSWERED: 2}
