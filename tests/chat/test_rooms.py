"""The words about rooms."""

import pytest

from prefork_chat.chat import outcomes, rooms
from prefork_chat.chat.effects import (
    EnterRoom,
    ExitRoom,
    ListMembers,
    ListNames,
    ListRooms,
    Report,
    TellRoom,
)

ENTER = EnterRoom(b"#dev", b"7")
EXIT = ExitRoom(b"#dev", b"7")
TELL = TellRoom(b"7", b"#dev", b"hi")
LIST = ListMembers(b"#dev", b"7")


def test_a_room_is_named_as_first_typed_with_its_members_counted() -> None:
    assert rooms.entered(b"#Dev", 3, b"7") == b"@7 OK ENTR #Dev n=3"
    assert rooms.exited(b"#Dev", 2, b"") == b"OK EXIT #Dev n=2"


def test_each_message_to_a_room_is_answered_with_how_many_it_has_reached() -> None:
    assert rooms.told(b"#Dev", 2, [b"", b"7"]) == [b"OK CHAT #Dev n=2", b"@7 OK CHAT #Dev n=2"]
    assert rooms.heading(b"#Dev", b"Alice") + b"hi" == b"CHAT #Dev Alice hi"
    assert rooms.missed(b"#Dev", 17) == b"NOTE MISSED 17 #Dev"


def test_those_who_come_and_go_are_named_in_few_lines_of_bounded_length() -> None:
    assert rooms.here(b"#Dev", [b"Bob", b"eve"]) == [b"HERE #Dev Bob eve"]
    assert rooms.gone(b"#Dev", [b"Bob"]) == [b"GONE #Dev Bob"]
    assert rooms.here(b"#Dev", []) == rooms.gone(b"#Dev", []) == []
    assert rooms.all_gone(b"#Dev") == b"GONE #Dev *"
    people = [b"%032d" % number for number in range(1000)]
    lines = rooms.here(b"#" + b"x" * 32, people)
    assert max(map(len, lines)) < 1024
    assert len(lines) < 40
    assert [name for line in lines for name in line.split(b" ")[2:]] == people


def test_lists_end_with_their_count() -> None:
    assert rooms.listed([(b"#Dev", 3, True), (b"#ops", 1, False)], b"7") == (
        b"@7 DATA ROOM #Dev n=3 in",
        b"@7 DATA ROOM #ops n=1",
        b"@7 OK ROOM n=2",
    )
    assert rooms.listed([], b"") == (b"OK ROOM n=0",)
    assert rooms.members_listed(b"#Dev", [b"Bob", b"eve"], b"7") == (
        b"@7 DATA WHOS Bob",
        b"@7 DATA WHOS eve",
        b"@7 OK WHOS #Dev n=2",
    )


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (rooms.no_room(EXIT), b"@7 ERR EXIT NOROOM #dev is a room that nobody is in: "),
        (rooms.no_room(TELL), b"@7 ERR CHAT NOROOM #dev is a room that nobody is in: "),
        (rooms.no_room(LIST), b"@7 ERR WHOS NOROOM #dev is a room that nobody is in: ENTR #dev "),
        (rooms.not_in(EXIT), b"@7 ERR EXIT NOTIN #dev is a room that you are not in: ROOM "),
        (rooms.not_in(TELL), b"@7 ERR CHAT NOTIN #dev is a room that you are not in: ENTR #dev "),
        (rooms.rooms_full(ENTER), b"@7 ERR ENTR FULL #dev cannot be opened, "),
        (rooms.too_many(ENTER, 16), b"@7 ERR ENTR FULL #dev would be one room too many, you are "),
        (rooms.no_rooms_here(ENTER), b"@7 ERR ENTR DENIED #dev cannot be opened: "),
    ],
)
def test_a_refusal_names_the_room_and_says_what_to_do(line: bytes, start: bytes) -> None:
    assert line.startswith(start)
    assert b": " in line
    assert b"%" not in line


@pytest.mark.parametrize(
    ("effect", "verb"),
    [
        (ListNames(b"7"), b"WHOS"),
        (LIST, b"WHOS"),
        (ListRooms(b"7"), b"ROOM"),
        (Report(b"7"), b"STAT"),
    ],
)
def test_who_has_much_to_read_gets_no_list(
    effect: ListNames | ListMembers | ListRooms | Report, verb: bytes
) -> None:
    assert outcomes.too_much_asked(effect).startswith(b"@7 ERR " + verb + b" BUSY ")
