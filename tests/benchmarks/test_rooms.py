"""loadgen in a room: what it finds of a server with a known fault, and that it finds no other."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from benchmarks.load import Load, LoadError, Outcome, run
from tests.benchmarks.test_loadgen import outcome, server, short

if TYPE_CHECKING:
    from pathlib import Path


def in_room(**changes: object) -> Load:
    return short(**{"room": True, "clients": 6, "talkers": 2, "drain_seconds": 0.3, **changes})


@pytest.mark.parametrize("receipts", [False, True])
def test_every_member_but_the_talker_gets_every_message(loadgen: Path, receipts: bool) -> None:
    with server("none") as address:
        found = outcome(loadgen, in_room(receipts=receipts), address)
    assert found.trouble() == {}
    assert found.delivered == 5 * found.sent > 0
    assert found.receipts == (found.sent if receipts else 0)
    assert found.delivery.count > 0


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("lose", "lost"),
        ("double", "doubled"),
        ("change", "corrupted"),
        ("hold", "reordered"),
        ("disconnect", "disconnects"),
    ],
)
def test_a_fault_in_a_room_is_counted_under_its_name(
    loadgen: Path, fault: str, trouble: str
) -> None:
    with server(fault) as address:
        found = outcome(loadgen, in_room(in_flight=8), address)
    assert not found.is_sound
    assert found.trouble().get(trouble, 0) > 0


def test_a_receipt_that_tells_of_too_few_members_is_an_error(loadgen: Path) -> None:
    with server("miscount") as address:
        found = outcome(loadgen, in_room(receipts=True), address)
    assert found.errors > 0
    assert found.complaint.startswith("OK CHAT #")


def test_only_talkers_talk_and_the_others_hold_still(loadgen: Path) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(clients=8, talkers=2, rate=200, seconds=0.5), address)
    assert found.trouble() == {}
    assert found.joined == 8
    assert found.delivery.count == pytest.approx(100, abs=1)


def test_a_server_without_rooms_ends_the_run_with_its_words(loadgen: Path) -> None:
    with server("roomless") as address, pytest.raises(LoadError, match="BADVERB"):
        outcome(loadgen, in_room(), address)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"processes": 2}, "one generator process"),
        ({"in_flight": 33}, "up to 32"),
        ({"talkers": 7}, "more than clients"),
        ({"mode": "idle"}, "only in mode chat"),
        ({"dialect": "irc", "receipts": True}, "this dialect has none"),
        ({"dialect": "irc", "payload_bytes": 400}, "too long"),
        ({"dialect": "irc", "password": "secret"}, "only in the native dialect"),
    ],
)
def test_what_makes_no_sense_in_a_room_is_refused(
    loadgen: Path, changes: dict[str, object], reason: str
) -> None:
    load = dataclasses.replace(in_room(), **changes)  # type: ignore[arg-type]
    with pytest.raises(LoadError, match=reason):
        list(run(loadgen, load, "127.0.0.1:1", 1, None))


def test_accounts_are_made_when_there_is_a_password(loadgen: Path) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(password="correct horse"), address)
    assert isinstance(found, Outcome)
    assert found.trouble() == {}
