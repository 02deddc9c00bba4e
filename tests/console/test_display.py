"""What is shown cannot command a terminal, and lists are readable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.bans import Ban
from prefork_chat.console import display
from prefork_chat.control import Client
from prefork_chat.protocol.events import Joined, Left, Said

CLOCK = "12:00:00"


def test_events_are_told_in_a_line_each() -> None:
    assert [
        display.show_event(event, CLOCK)
        for event in (
            Joined(b"alice", b"[::1]:7"),
            Joined(b"bob", b""),
            Said(b"alice", b"bob", b"h\xc3\xa9"),
            Said(b"alice", b"bob", None),
            Left(b"alice"),
        )
    ] == [
        "12:00:00 alice joined from [::1]:7",
        "12:00:00 bob joined from this machine",
        "12:00:00 alice -> bob: hé",
        "12:00:00 alice -> bob",
        "12:00:00 alice left",
    ]


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_no_message_commands_a_terminal(sender: bytes, text: bytes) -> None:
    line = display.show_event(Said(sender, b"bob", text), CLOCK)
    assert all(c.isprintable() or c == "\t" or ord(c) > 0x9F for c in line)
    assert "\u202e" not in line


def test_losses_are_counted_in_words() -> None:
    assert display.show_loss(1) == "... 1 line lost"
    assert display.show_loss(12_345) == "... 12,345 lines lost"


def test_bans_are_listed_in_order_with_their_terms() -> None:
    assert display.show_bans([]) == ["nobody is banned or muted"]
    assert display.show_bans(
        [Ban("mute", "eve", 0.0, 0.0), Ban("ban", "mallory", 0.0, None, "a\x1bb")]
    ) == ["ban  mallory: a?b", "mute  eve until 1970-01-01 00:00 UTC"]


def test_who_is_here_is_listed_by_name() -> None:
    def client(name: str, address: str = "") -> Client:
        return Client(0, 1, 0, 0, name, address)

    assert display.show_clients([client("bob", "1.2.3.4:5"), client("Alice")], {"alice"}) == [
        "Alice  -  (muted)",
        "bob    1.2.3.4:5",
        "2 here",
    ]
    assert display.show_clients([client("")], ()) == ["0 here, and 1 without a name"]


def test_rooms_are_listed_by_name_with_their_members() -> None:
    assert display.show_rooms([]) == ["there are no rooms"]
    assert display.show_rooms([("#tea", 2), ("#Coffee", 1200)]) == ["#Coffee  1,200", "#tea     2"]


def test_the_time_of_day_is_local() -> None:
    assert len(display.clock()) == len(display.clock(0.0)) == 8
