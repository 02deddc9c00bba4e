"""What HIST, FIND and READ ask for, and how they are answered."""

from __future__ import annotations

import pytest

from prefork_chat.chat import history
from prefork_chat.chat.commands import execute
from prefork_chat.chat.effects import FindWords, Identify, ReadHistory, Refuse
from prefork_chat.chat.session import Session

OWNER = Session(name=b"Alice", key=b"alice", registered=True)


@pytest.mark.parametrize(
    ("line", "about", "count", "before", "after"),
    [
        (b"HIST", b"", 20, 0, 0),
        (b"HIST 5", b"", 5, 0, 0),
        (b"HIST Bob", b"bob", 20, 0, 0),
        (b"HIST #Dev 7", b"#dev", 7, 0, 0),
        (b"HIST 77 7", b"77", 7, 0, 0),
        (b"HIST bob before=12", b"bob", 20, 12, 0),
        (b"hist after=12 5", b"", 5, 0, 12),
        (b"HIST 99999999999999", b"", 200, 0, 0),
    ],
)
def test_hist_asks_for(line: bytes, about: bytes, count: int, before: int, after: int) -> None:
    assert execute(OWNER, line) == ReadHistory(b"alice", (), about, count, before, after, b"")


@pytest.mark.parametrize(
    "line",
    [
        b"HIST bob carol",
        b"HIST 0",
        b"HIST !",
        b"HIST before=",
        b"HIST before=0",
        b"HIST before=x",
        b"HIST before=1 after=2",
        b"HIST before=1 before=2",
        b"HIST since=1",
        b"HIST before=99999999999999999999999",
        b"FIND",
        b"FIND before=7",
        b"READ",
        b"READ !",
    ],
)
def test_what_makes_no_sense_is_refused(line: bytes) -> None:
    session = Session() if line.startswith(b"READ") else OWNER
    effect = execute(session, line)
    assert isinstance(effect, Refuse)
    assert effect.line.startswith(b"ERR %b BADARGS " % line[:4])


@pytest.mark.parametrize("line", [b"HIST", b"@1 HIST bob", b"HIST #dev", b"FIND x", b"@1 FIND x"])
@pytest.mark.parametrize("session", [Session(), Session(name=b"eve", key=b"eve")])
def test_who_has_no_account_is_refused(line: bytes, session: Session) -> None:
    effect = execute(session, line)
    assert isinstance(effect, Refuse)
    assert b" AUTH " in effect.line


def test_find_asks_for_words() -> None:
    assert execute(OWNER, b"FIND red  wine") == FindWords(b"alice", (), b"red  wine", 0, b"")
    assert execute(OWNER, b"@1 FIND red before=9") == FindWords(b"alice", (), b"red", 9, b"1")


def test_read_asks_who_somebody_is() -> None:
    asked = execute(Session(), b"@1 READ Bob my secret")
    assert asked == Identify(b"Bob", b"bob", b"my secret", b"1")
    assert b"secret" not in repr(asked).encode()


def test_who_has_shown_an_account_reads_its_history_without_a_name() -> None:
    asked = execute(Session(reader=b"bob"), b"HIST")
    assert isinstance(asked, ReadHistory)
    assert asked.user == b"bob"


def test_an_answer_lists_messages_and_ends_with_how_many() -> None:
    asked = ReadHistory(b"alice", (), b"", 20, 0, 0, b"4")
    found = [history.Told(7, b"2026-11-21T16:35:32.123Z", b"Bob", b"Alice", b"hi  there")]
    assert history.told(asked, found, has_more=True) == (
        b"@4 DATA HIST 7 2026-11-21T16:35:32.123Z Bob Alice hi  there",
        b"@4 OK HIST n=1 more=1",
    )
