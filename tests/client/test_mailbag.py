from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.client.entries import Entry, Kind, State
from prefork_chat.client.mailbag import WINDOW, Mailbag
from prefork_chat.client.wire import Answer


class Box:
    """A mailbag, and a receiver who takes what is written to him or asks to slow down."""

    def __init__(self) -> None:
        numbers = count(1)
        self.bag = Mailbag(lambda: str(next(numbers)))
        self.entries: list[Entry] = []
        self.now = 0.0

    def add(self, text: str, to: str = "bob") -> Entry:
        entry = Entry(Kind.MESSAGE, 0.0, text, to=to, number=len(self.entries))
        self.entries.append(entry)
        self.bag.add(entry)
        return entry

    def answer(self, line: str, code: str = "", text: str = "bob") -> None:
        self.bag.answered(Answer(line.split(maxsplit=1)[0][1:], "CHAT", code, text), self.now)


def test_so_many_are_under_way_and_no_more() -> None:
    box = Box()
    for number in range(WINDOW + 3):
        box.add(str(number))
    lines = box.bag.write(box.now)
    assert len(lines) == box.bag.under_way == WINDOW
    assert box.bag.write(box.now) == []
    box.answer(lines[0])
    assert [line.split()[-1] for line in box.bag.write(box.now)] == [str(WINDOW)]


@given(st.lists(st.booleans(), max_size=60))
def test_a_slow_receiver_gets_all_in_the_end_and_each_once(is_slow: list[bool]) -> None:
    box = Box()
    texts = [str(number) for number in range(20)]
    for text in texts:
        box.add(text)
    got: list[str] = []
    asked_to_slow_down = iter(is_slow[:9])  # of a message's ten tries the last is taken
    for _ in range(500):
        lines = box.bag.write(box.now)
        for line in lines:
            if next(asked_to_slow_down, False):
                box.answer(line, "BUSY")
            else:
                got.append(line.split()[-1])
                box.answer(line)
        if not lines:
            wake_at = box.bag.wake_at(box.now)
            if wake_at is None:
                break
            box.now = wake_at
    assert sorted(got, key=int) == texts
    assert len(box.bag) == 0
    assert all(entry.state is State.DELIVERED for entry in box.entries)


def test_once_asked_to_slow_down_one_at_a_time_is_sent_in_order() -> None:
    box = Box()
    for number in range(4):
        box.add(str(number))
    for line in box.bag.write(box.now):
        box.answer(line, "BUSY")
    got = []
    for _ in range(4):
        box.now = box.bag.wake_at(box.now) or box.now
        (line,) = box.bag.write(box.now)
        got.append(line.split()[-1])
        box.answer(line)
    assert got == ["0", "1", "2", "3"]


def test_a_slow_receiver_does_not_hold_up_others() -> None:
    box = Box()
    box.add("to the slow one")
    (line,) = box.bag.write(box.now)
    box.answer(line, "BUSY")
    box.add("more for him")
    box.add("hello", to="carol")
    (line,) = box.bag.write(box.now)
    assert line.endswith("CHAT carol hello")


def test_who_never_takes_it_is_given_up() -> None:
    box = Box()
    entry = box.add("hello")
    tries = 0
    while entry.state is not State.FAILED:
        box.now = box.bag.wake_at(box.now) or box.now
        (line,) = box.bag.write(box.now)
        box.answer(line, "BUSY", "bob reads too slowly")
        tries += 1
    assert tries == 10
    assert box.now < 60
    assert entry.reason == "bob reads too slowly"


def test_an_answer_may_still_come_when_it_has_become_doubtful() -> None:
    box = Box()
    entry = box.add("hello")
    (line,) = box.bag.write(box.now)
    box.bag.lose_answers()
    box.answer(line, text="bob stored")
    assert entry.state is State.STORED
    assert box.bag.settle() == []
    assert box.bag.answered(Answer("99", "CHAT", "", "bob"), box.now) is None


def test_what_is_given_up_is_unsure_only_if_it_was_written() -> None:
    box = Box()
    written = box.add("one")
    box.bag.write(box.now)
    box.bag.lose_answers()
    waiting = box.add("two")
    box.bag.give_up("the end")
    assert (written.state, waiting.state) == (State.UNSURE, State.FAILED)
    assert len(box.bag) == 0
