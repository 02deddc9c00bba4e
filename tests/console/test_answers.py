"""Answers are added up once each, and one that does not come is told."""

from __future__ import annotations

from prefork_chat.console.answers import PATIENCE_SECONDS, Answers, Outcome
from prefork_chat.protocol.events import Answered, Taken


def word(count: int, is_sure: bool) -> Outcome:
    return Outcome(f"{count}{'' if is_sure else '+'}")


def test_the_outcome_is_told_when_the_last_loop_has_answered() -> None:
    answers = Answers()
    assert answers.expect(7, {0, 1, 5}, 0.0, word) is None
    assert answers.owed == 3
    assert answers.note(0, Answered(7, 2)) == []
    assert answers.note(5, Answered(7, 0)) == []
    assert answers.note(0, Answered(7, 2)) == [], "a second time does not count"
    assert answers.note(1, Answered(8, 9)) == [], "of another directive"
    assert answers.note(4, Answered(7, 9)) == [], "of a loop that was not asked"
    assert answers.note(1, Answered(7, 1)) == [Outcome("3")]
    assert answers.owed == 0
    assert answers.next_expiry() is None


def test_what_goes_to_nobody_is_over_at_once() -> None:
    assert Answers().expect(7, set(), 0.0, word) == Outcome("0")


def test_a_successor_answers_for_all_that_was_taken_before() -> None:
    answers = Answers()
    for number in (7, 8, 9):
        answers.expect(number, {0, 1}, 0.0, word)
    assert answers.note(0, Answered(7, 1)) == []
    assert answers.note(1, Taken(8)) == [Outcome("1+")]
    assert answers.note(0, Answered(8, 4)) == [Outcome("4+")]
    assert answers.note(0, Taken(9)) == []
    assert answers.note(1, Answered(9, 2)) == [Outcome("2+")]


def test_a_successor_changes_nothing_about_what_was_answered() -> None:
    answers = Answers()
    answers.expect(7, {0, 1}, 0.0, word)
    answers.note(0, Answered(7, 1))
    assert answers.note(0, Taken(7)) == []
    assert answers.note(1, Answered(7, 1)) == [Outcome("2")]


def test_a_loop_that_does_not_answer_is_told_in_time() -> None:
    answers = Answers()
    answers.expect(7, {0, 1, 2}, 100.0, word)
    answers.expect(8, {0}, 101.0, word)
    answers.note(2, Answered(7, 3))
    assert answers.next_expiry() == 100.0 + PATIENCE_SECONDS
    assert answers.expire(100.0 + PATIENCE_SECONDS - 0.1) == []
    assert answers.expire(100.0 + PATIENCE_SECONDS) == [
        Outcome("3+; but 2 loops of the daemon did not answer", is_failure=True)
    ]
    assert answers.expire(101.0 + PATIENCE_SECONDS) == [
        Outcome("0+; but 1 loop of the daemon did not answer", is_failure=True)
    ]
    assert answers.owed == 0
