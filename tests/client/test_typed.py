from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.client import typed
from prefork_chat.client.completion import complete


@pytest.mark.parametrize(
    ("line", "intent"),
    [
        ("", None),
        ("   ", None),
        ("hello", typed.Say("hello")),
        ("  indented", typed.Say("  indented")),
        ("//usr/bin", typed.Say("/usr/bin")),
        ("/msg bob hi  you", typed.Say("hi  you", "bob")),
        ("/msg #dev hi", typed.Say("hi", "#dev")),
        ("/MSG bob", typed.TalkTo("bob")),
        ("/msg #dev", typed.Enter("#dev")),
        ("/join #dev", typed.Enter("#dev")),
        ("/join dev", typed.Enter("#dev")),
        ("/part", typed.Exit("")),
        ("/part #dev", typed.Exit("#dev")),
        ("/who", typed.Who("")),
        ("/who #dev", typed.Who("#dev")),
        ("/rooms", typed.Rooms()),
        ("/hist", typed.History(50)),
        ("/hist 7", typed.History(7)),
        ("/find two words", typed.Find("two words")),
        ("/pass", typed.SetPassword()),
        ("/raw STAT", typed.Raw("STAT")),
        ("/help me", typed.Help()),
        ("/quit", typed.Quit()),
    ],
)
def test_what_is_typed_is_understood(line: str, intent: typed.Intent | None) -> None:
    assert typed.parse(line) == intent


@pytest.mark.parametrize(
    "line",
    [
        "/",
        "/nope",
        "/join",
        "/join #a b",
        "/msg",
        "/msg @bob hi",
        "/part $",
        "/who bob",
        "/hist 0",
        "/hist -3",
        "/hist 1001",
        "/hist \N{ARABIC-INDIC DIGIT SEVEN}",
        "/find",
        "/pass secret",
        "/raw",
    ],
)
def test_mistakes_are_explained(line: str) -> None:
    intent = typed.parse(line)
    assert isinstance(intent, typed.Mistake)
    assert intent.text


@given(st.text())
def test_whatever_is_typed_means_something(line: str) -> None:
    assert (typed.parse(line) is None) == (not line.strip())


NAMES = ["bob", "Barbara", "carol"]
ROOMS = ["#dev", "#Docs"]


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("", []),
        ("b", ["bob: ", "Barbara: "]),
        ("BA", ["Barbara: "]),
        ("hello b", ["bob ", "Barbara "]),
        ("hello ", []),
        ("see #d", ["#dev ", "#Docs "]),
        ("/m", ["/msg "]),
        ("/", [*(f"{name} " for name in typed.COMMANDS)]),
        ("/msg b", ["bob ", "Barbara "]),
        ("/msg #do", ["#Docs "]),
        ("/msg bob c", ["carol "]),
        ("/join ", ["#dev", "#Docs"]),
        ("/who #de", ["#dev"]),
        ("/part ", [*NAMES, *ROOMS]),
        ("/hist ", []),
    ],
)
def test_tab_offers_what_goes_on_from_the_text(before: str, found: list[str]) -> None:
    offered = complete(before, NAMES, ROOMS)
    assert [text for text, _ in offered] == found
    word = before.rpartition(" ")[2]
    assert all(replaced == len(word) for _, replaced in offered)
