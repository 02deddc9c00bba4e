"""Which lines of other programs are said."""

from __future__ import annotations

import pytest

from prefork_chat.porter.rules import Accepted, Rejected, Rules


@pytest.mark.parametrize(
    ("line", "destination", "said"),
    [
        (b"CHAT bob hi", b"bob", b"CHAT bob hi"),
        (b"chat Bob  hi there ", b"bob", b"CHAT Bob  hi there "),
        (b"CHAT #Ops backup done", b"#ops", b"CHAT #Ops backup done"),
    ],
)
def test_chat_lines_are_said(line: bytes, destination: bytes, said: bytes) -> None:
    verdict = Rules(["*"]).judge(line)
    assert verdict == Accepted(said, destination)
    assert isinstance(verdict, Accepted)
    assert verdict.is_for_room is destination.startswith(b"#")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"JOIN bob", "not of the form"),
        (b"CHAT", "not of the form"),
        (b"CHAT bob", "not of the form"),
        (b"CHAT bob ", "not of the form"),
        (b"@1 CHAT bob hi", "not of the form"),
        (b"CHAT  bob hi", "neither a name"),
        (b"CHAT * hi", "neither a name"),
        (b"CHAT # hi", "neither a name"),
        (b"CHAT bob " + b"x" * 1015, "longer than 1023 bytes"),
    ],
)
def test_others_are_not(line: bytes, reason: str) -> None:
    verdict = Rules(["*"]).judge(line)
    assert isinstance(verdict, Rejected)
    assert verdict.reason.startswith(reason)


@pytest.mark.parametrize(
    ("to", "heard", "deaf"),
    [
        (["bob"], ["bob", "BOB"], ["bobby", "#bob"]),
        (["#*"], ["#ops", "#x"], ["ops"]),
        (["#ops*", "Alice"], ["#ops", "#OPS-2", "alice"], ["#op", "alice2"]),
        (["*"], ["bob", "#ops"], []),
    ],
)
def test_only_those_named_are_spoken_to(to: list[str], heard: list[str], deaf: list[str]) -> None:
    rules = Rules(to)
    for who in heard:
        assert isinstance(rules.judge(f"CHAT {who} x".encode()), Accepted), who
    for who in deaf:
        assert rules.judge(f"CHAT {who} x".encode()) == Rejected("to whom it may not speak"), who
