"""Merging the history into what is here: nothing twice, nothing missing, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.client.entries import Entry, Kind, State, mentions
from prefork_chat.client.talks import Talk, Talks, entry_of
from prefork_chat.client.wire import Row

TEXTS = ["a", "b"]


def live(text: str, time: float = 0.0, **more: object) -> Entry:
    return Entry(Kind.MESSAGE, time, text, sender="bob", to="alice", **more)  # type: ignore[arg-type]


def rows(texts: list[str], first: int = 1) -> list[Entry]:
    return [
        entry_of(Row(number, number * 10.0, "bob", "alice", text), "alice")
        for number, text in enumerate(texts, first)
    ]


def talk_of(*texts: str) -> tuple[Talks, Talk]:
    talks = Talks()
    talk = talks.get("bob")
    for index, text in enumerate(texts):
        talks.add(talk, live(text, index + 1000.0))
    return talks, talk


def shown(talk: Talk) -> list[str]:
    return [entry.text for entry in talk.entries]


@given(
    history=st.lists(st.sampled_from(TEXTS), max_size=12),
    seen=st.sets(st.integers(0, 11)),
    later=st.lists(st.sampled_from(TEXTS), max_size=4),
)
def test_catching_up_shows_every_message_once(
    history: list[str], seen: set[int], later: list[str]
) -> None:
    """Some of the history came over the connection; then it broke, and another one came."""
    talks, talk = talk_of(*(text for index, text in enumerate(history) if index in seen))
    until = talks.next_number
    for text in later:
        talks.add(talk, live(text))
    missed = talks.catch_up(talk, rows(history + later), 0, until)
    assert sorted(shown(talk)) == sorted(history + later)
    assert len(missed) == len(history) - len([i for i in seen if i < len(history)])
    ids = [entry.row_id for entry in talk.entries]
    assert sorted(ids) == [*range(1, len(history + later) + 1)]
    assert talks.catch_up(talk, rows(history + later), 0, until) == []


@given(
    history=st.lists(st.sampled_from(TEXTS), max_size=12),
    first_live=st.integers(0, 12),
    size=st.integers(1, 5),
)
def test_paging_back_ends_with_the_whole_history_in_order(
    history: list[str], first_live: int, size: int
) -> None:
    talks, talk = talk_of(*history[first_live:])
    before = len(history) + 1
    while before > 1:
        first = max(before - size, 1)
        talks.page_back(talk, rows(history[first - 1 : before - 1], first))
        before = first
    assert shown(talk) == history
    assert [entry.row_id for entry in talk.entries] == [*range(1, len(history) + 1)]


def test_what_is_not_in_the_history_keeps_its_place() -> None:
    talks, talk = talk_of("before", "x", "remark", "y")
    talk.entries[2].kind = Kind.REMARK
    talks.page_back(talk, rows(["old", "x", "y"]))
    assert shown(talk) == ["before", "old", "x", "remark", "y"]


def test_a_page_without_anything_known_is_put_where_its_time_belongs() -> None:
    talks, talk = talk_of()
    for text, time in (("early", 5.0), ("late", 500.0)):
        talks.add(talk, live(text, time))
    talks.page_back(talk, rows(["x", "y"]))
    assert shown(talk) == ["early", "x", "y", "late"]


def test_messages_known_to_have_arrived_are_matched_before_doubtful_ones() -> None:
    talks, talk = talk_of()
    doubtful = live("ok", is_mine=True, state=State.SENT)
    delivered = live("ok", is_mine=True, state=State.DELIVERED)
    failed = live("ok", is_mine=True, state=State.FAILED)
    for entry in (failed, doubtful, delivered):
        talks.add(talk, entry)
    assert talks.catch_up(talk, rows(["ok"]), 0, talks.next_number) == []
    assert (failed.row_id, doubtful.row_id, delivered.row_id) == (0, 0, 1)


def test_a_long_talk_forgets_its_oldest_entries() -> None:
    talks, talk = talk_of()
    talk.is_complete = True
    for number in range(5001):
        talks.add(talk, live(str(number)))
    assert len(talk.entries) == 4501
    assert not talk.is_complete


def test_a_dropped_talk_makes_room_for_another() -> None:
    talks = Talks()
    talks.get("bob")
    talks.enter("#dev")
    talks.forget("#DEV")
    assert talks.current.name == "bob"
    talks.forget("nobody")
    talks.forget("bob")
    assert talks.current.name == ""


def test_a_mention_is_a_word_of_its_own() -> None:
    assert mentions("hey Alice!", "alice")
    assert mentions("alice: look", "alice")
    assert mentions("ask alice.", "alice")
    assert not mentions("malice", "alice")
    assert not mentions("alice_2", "alice")
    assert not mentions("anything", "")
