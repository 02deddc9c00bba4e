"""The words for how an effect went."""

import pytest

from prefork_chat.chat import outcomes
from prefork_chat.chat.effects import Claim
from prefork_chat.chat.session import Session
from prefork_chat.protocol.replies import Code

CLAIM = Claim(b"Bob", b"bob", b"7")


def test_a_session_takes_its_name_when_the_registry_has_it() -> None:
    session = Session()
    assert outcomes.joined(session, CLAIM) == b"@7 OK JOIN Bob"
    assert (session.name, session.key) == (b"Bob", b"bob")


def test_a_join_that_failed_says_why() -> None:
    assert outcomes.name_in_use(CLAIM).startswith(b"@7 ERR JOIN INUSE Bob is taken: ")


def test_a_connection_for_which_there_is_no_place_is_told_so() -> None:
    assert outcomes.full().startswith(b"ERR HELO FULL ")


def test_a_connection_that_is_closed_is_told_why() -> None:
    assert outcomes.going_down() == b"NOTE server is going down"
    assert outcomes.login_expired().startswith(b"ERR * NOJOIN ")


def test_a_client_whose_server_lost_something_is_told_so() -> None:
    assert outcomes.resumed().startswith(b"NOTE RESUMED: ")


def test_a_receipt_names_the_destination_as_typed() -> None:
    assert outcomes.delivered(b"bOB", b"") == b"OK CHAT bOB"
    assert outcomes.delivered(b"bOB", b"7") == b"@7 OK CHAT bOB"


def test_many_receipts_are_the_same_lines_as_single_ones() -> None:
    dests = [b"bob", b"Eve", b"bob"]
    one_by_one = b"\n".join(outcomes.delivered(dest, b"") for dest in dests)
    assert outcomes.all_delivered(dests) == one_by_one


@pytest.mark.parametrize(
    "code",
    [
        Code.BADARGS,
        Code.BADNAME,
        Code.NOJOIN,
        Code.NOUSER,
        Code.BUSY,
        Code.RATE,
        Code.UNSURE,
        Code.INTERNAL,
    ],
)
def test_the_word_behind_the_code_is_the_destination(code: Code) -> None:
    line = outcomes.undelivered(code, b"bob", b"7")
    assert line.startswith(b"@7 ERR CHAT " + code + b" bob ")
    assert b": " in line


def test_a_destination_that_is_not_found_is_told_apart() -> None:
    assert outcomes.unknown_destination(b"bob", b"").startswith(b"ERR CHAT NOUSER bob ")
    assert outcomes.unknown_destination(b"b@b", b"").startswith(b"ERR CHAT BADNAME b@b ")
    assert outcomes.unknown_destination(b"#!", b"").startswith(b"ERR CHAT BADNAME #! ")
    assert outcomes.unknown_destination(b"", b"7").startswith(b"@7 ERR CHAT BADARGS ")


def test_an_answer_that_lists_ends_with_the_count() -> None:
    assert outcomes.listed([b"Bob", b"eve"], b"7") == (
        b"@7 DATA WHOS Bob",
        b"@7 DATA WHOS eve",
        b"@7 OK WHOS n=2",
    )
    assert outcomes.listed([], b"") == (b"OK WHOS n=0",)
    assert outcomes.reported({b"names": 3}, b"") == (b"DATA STAT names=3", b"OK STAT n=1")


def test_who_leaves_gets_one_last_ok() -> None:
    assert outcomes.left(b"") == b"OK LEAV"
    assert outcomes.left(b"7") == b"@7 OK LEAV"
