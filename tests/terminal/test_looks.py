from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from prefork_chat.client.entries import Entry, Kind, State
from prefork_chat.terminal import looks, status
from prefork_chat.terminal.messages import MessageList
from prefork_chat.terminal.wrapping import wrap
from tests.client.server import Server, Wire


def text_of(pieces: list[looks.Piece]) -> str:
    return "".join(text for _, text in pieces)


def mine(state: State, **more: object) -> Entry:
    return Entry(Kind.MESSAGE, 0.0, "hi", "alice", "bob", is_mine=True, state=state, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        (mine(State.WAITING), "hi …"),
        (mine(State.SENT), "hi ·"),
        (mine(State.DELIVERED), "hi ✓"),
        (mine(State.DELIVERED, reached=3), "hi ✓ 3"),
        (mine(State.STORED), "hi ✓ stored"),
        (mine(State.DELIVERED, is_repeated=True), "hi ✓ (sent again)"),
        (mine(State.FAILED, reason="bob is not here"), "hi ✗ bob is not here"),
        (mine(State.UNSURE, reason="ask him"), "hi ? ask him"),
    ],
)
def test_each_state_of_a_message_is_shown(entry: Entry, end: str) -> None:
    assert text_of(looks.pieces(entry, with_place=False)).endswith(f"alice: {end}")


def test_where_talks_are_mixed_the_place_is_shown() -> None:
    assert "[to bob] alice: hi" in looks.plain(mine(State.SENT))
    assert "[#dev] bob: hi" in looks.plain(Entry(Kind.MESSAGE, 0.0, "hi", "bob", "#dev"))
    assert "[to you] bob: hi" in looks.plain(Entry(Kind.MESSAGE, 0.0, "hi", "bob", "alice"))
    assert "-- hi" in looks.plain(Entry(Kind.REMARK, 0.0, "hi"))
    assert "!! hi" in looks.plain(Entry(Kind.ERROR, 0.0, "hi"))


def test_a_name_has_one_colour_whatever_its_case() -> None:
    assert looks.name_style("Bob") == looks.name_style("bob")
    assert len({looks.name_style(f"user{number}") for number in range(100)}) > 5
    assert all(looks.name_style(f"u{n}").removeprefix("class:") in looks.STYLES for n in range(50))


def test_in_words_a_bad_end_cannot_be_overlooked() -> None:
    text = looks.in_words(mine(State.FAILED, reason="bob is not here"))
    assert text == "to bob: hi -- NOT DELIVERED (bob is not here)"


_PIECES = st.lists(
    st.tuples(
        st.sampled_from(["", "class:a"]), st.text(st.sampled_from("ab 你e\u0301"), max_size=30)
    ),
    max_size=6,
)


@given(_PIECES, st.integers(1, 40), st.integers(0, 20))
def test_wrapped_lines_fit_and_lose_nothing(
    pieces: list[looks.Piece], width: int, indent: int
) -> None:
    lines = wrap(pieces, width, indent)
    if width >= 4:
        assert all(get_cwidth(text_of(line)) <= width for line in lines)
    joined = "".join(text_of(line) for line in lines)
    assert joined.replace(" ", "") == text_of(pieces).replace(" ", "")


def test_lines_are_broken_between_words_and_set_in() -> None:
    lines = wrap([("", "12:00 bob: one two three four")], 18, 6)
    assert [text_of(line) for line in lines] == ["12:00 bob: one two", "      three four"]


def test_the_status_line_says_where_one_is_and_what_is_unread() -> None:
    wire = Wire(Server(people=["bob", "carol"]))
    assert text_of(status.pieces(wire.conversation)) == " no connection "
    assert status.prompt_text(wire.conversation) == "alice> "
    wire.arrive()
    wire.type("/join #dev")
    wire.hear("CHAT bob hi", "CHAT #ops bob x")
    wire.conversation.say("#dev", "on its way", wire.now)
    line = text_of(status.pieces(wire.conversation))
    assert line == " alice | #dev (3) | unread: bob:1! #ops:1 | 1 on their way "
    assert status.prompt_text(wire.conversation) == "alice → #dev> "


def test_the_message_list_shows_the_end_and_stays_where_it_is_scrolled_to() -> None:
    wire = Wire()
    wire.arrive()
    for number in range(100):
        wire.hear(f"CHAT bob number {number}")
    messages = MessageList(wire.conversation.talks)

    def shown(width: int = 40, height: int = 5) -> list[str]:
        content = messages.create_content(width, height)
        return ["".join(part[1] for part in content.get_line(i)) for i in range(content.line_count)]

    assert [line[-9:] for line in shown()] == [f"number {n}" for n in range(95, 100)]
    messages.page_up()
    seen = shown()
    wire.hear("CHAT bob one more")
    assert shown() == seen
    assert seen[-1].endswith("number 96")
    assert messages.search("NUMBER 42")
    assert shown()[-1].endswith("number 42")
    assert not messages.search("NUMBER 42")
    assert not messages.search("nothing like this")
    messages.follow()
    assert shown()[-1].endswith("one more")
    wire.type("/msg carol")
    assert shown() == [""] * 5
    messages.page_up()
    messages.page_down()
    assert messages.is_following
