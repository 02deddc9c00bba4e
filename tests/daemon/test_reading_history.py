"""HIST, FIND and READ: everybody finds what is his, and nobody what is not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.daemon.registered import PASSWORD, register
from tests.daemon.test_history import come
from tests.daemon.test_killed_historian import FAST_RESPAWN, kill_historian

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

_DATA = re.compile(r"DATA (HIST|FIND) \d+ \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (.*)")


def read(client: LineClient, question: str) -> list[str]:
    """Ask, and return what is told of each message: `from to text`."""
    client.send(question)
    *lines, end = client.read_until(r"(OK|ERR) (HIST|FIND) .*")
    assert end.startswith("OK "), end
    matches = [_DATA.fullmatch(line) for line in lines]
    assert all(matches), lines
    told = [match[2] for match in matches if match]
    assert end == f"OK {question[:4]} n={len(told)} more={end[-1]}"
    return told


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    return start_with_talk(start_daemon)


def start_with_talk(start_daemon: StartDaemon) -> Daemon:
    """Where alice, bob and carol have accounts, and alice and bob have talked."""
    daemon = start_daemon(program="tests.daemon.lenient", **FAST_RESPAWN)
    register(daemon, "alice", "bob", "carol")
    with come(daemon, "alice") as alice, come(daemon, "bob") as bob:
        alice.ask("CHAT bob the train leaves at nine", "OK CHAT bob")
        bob.expect("CHAT alice the train leaves at nine")
        bob.ask("CHAT alice see you", "OK CHAT alice")
    return daemon


def test_people_read_and_find_what_they_have_said_to_each_other(library: Daemon) -> None:
    both = ["alice bob the train leaves at nine", "bob alice see you"]
    for name, peer in (("alice", "bob"), ("bob", "Alice")):
        with come(library, name) as client:
            assert read(client, "HIST") == both
            assert read(client, f"HIST {peer}") == both
            assert read(client, "HIST carol") == []
            assert read(client, "HIST 1") == both[1:]
            assert read(client, "FIND train") == both[:1]
            assert read(client, "FIND plane") == []


def test_answers_come_in_the_order_of_the_lines(library: Daemon) -> None:
    with come(library, "alice") as alice:
        alice.send("HIST 1", "PING one", "FIND see", "PING two")
        lines = [re.sub(r"\d{4}-\S*Z ", "", line) for line in alice.read_lines(6)]
    assert lines == [
        "DATA HIST 2 bob alice see you",
        "OK HIST n=1 more=1",
        "OK PING one",
        "DATA FIND 2 bob alice see you",
        "OK FIND n=1 more=0",
        "OK PING two",
    ]


@pytest.mark.parametrize(
    "question", ["HIST", "HIST alice", "HIST bob", "HIST bob 50 after=1", "FIND train", "FIND see"]
)
def test_another_user_finds_nothing_of_it(library: Daemon, question: str) -> None:
    with come(library, "carol") as carol:
        assert read(carol, question) == []


@pytest.mark.parametrize("question", ["HIST", "HIST alice", "HIST #dev", "FIND train"])
def test_a_guest_is_told_to_say_who_he_is(library: Daemon, question: str) -> None:
    verb = question[:4]
    with library.connect() as stranger, library.join("guest") as guest:
        for client in (stranger, guest):
            client.send(question)
            client.expect_error(verb, "AUTH")
        stranger.send("READ bob wrong password")
        stranger.expect_error("READ", "AUTH")
        stranger.send(question)
        stranger.expect_error(verb, "AUTH")
        stranger.send("READ bob")
        stranger.expect_error("READ", "AUTH")
        stranger.send("READ nobody " + PASSWORD)
        stranger.expect_error("READ", "AUTH")


def test_who_registers_a_guests_name_reads_nothing_of_the_guest(daemon: Daemon) -> None:
    with daemon.join("eve") as eve:
        eve.ask("CHAT bob a guest's secret", "OK CHAT bob stored")
        eve.leave()  # and so her name is free
    register(daemon, "eve")
    with come(daemon, "eve") as eve:
        assert read(eve, "HIST") == []
        assert read(eve, "FIND secret") == []
    with come(daemon, "bob") as bob:
        bob.expect("CHAT eve a guest's secret")
        assert read(bob, "HIST eve") == ["~eve bob a guest's secret"]


def test_reading_without_joining_shows_nobody_and_delivers_nothing(daemon: Daemon) -> None:
    with come(daemon, "alice") as alice, daemon.connect() as reader:
        alice.ask("CHAT bob wait for me", "OK CHAT bob stored")
        reader.ask(f"READ bob {PASSWORD}", "OK READ")
        assert read(reader, "HIST 1") == ["alice bob wait for me"]
        assert read(reader, "FIND wait") == ["alice bob wait for me"]
        alice.ask("ENTR #dev", "OK ENTR #dev n=1")
        alice.ask("CHAT #dev alone", "OK CHAT #dev n=0")
        assert read(reader, "HIST #dev") == ["alice #dev alone"]
        alice.ask("CHAT #dev still alone", "OK CHAT #dev n=0")
        alice.ask("WHOS", "DATA WHOS alice", "OK WHOS n=1")
        with come(daemon, "bob") as bob:
            bob.expect("CHAT alice wait for me")


def test_who_has_joined_reads_the_rooms_that_he_is_in_and_no_others(library: Daemon) -> None:
    with come(library, "alice") as alice:
        alice.send("HIST #dev")
        alice.expect_error("HIST", "DENIED")
        alice.ask("ENTR #dev", "OK ENTR #dev n=1")
        assert read(alice, "HIST #Dev") == []
        alice.ask("EXIT #dev", "OK EXIT #dev n=0")
        alice.send("HIST #dev")
        alice.expect_error("HIST", "DENIED")


def test_what_is_said_in_a_room_is_stored_before_it_is_confirmed(daemon: Daemon) -> None:
    with come(daemon, "alice") as alice, come(daemon, "bob") as bob, daemon.join("guest") as guest:
        alice.ask("ENTR #Dev", "OK ENTR #Dev n=1")
        bob.ask("ENTR #dev", "OK ENTR #Dev n=2")
        guest.ask("ENTR #dev", "OK ENTR #Dev n=3")
        alice.ask("@1 CHAT #dev build the model", "@1 OK CHAT #Dev n=2")
        bob.expect("CHAT #Dev alice build the model")
        guest.expect("CHAT #Dev alice build the model")
        guest.ask("CHAT #dev no", "OK CHAT #Dev n=2")
        bob.expect("CHAT #Dev guest no")
        said = ["alice #Dev build the model", "~guest #Dev no"]
        assert read(bob, "HIST #dev") == said
        assert read(bob, "FIND model") == said[:1]
        assert read(bob, "HIST 2") == said
        bob.ask("EXIT #dev", "OK EXIT #Dev n=2")
        bob.send("HIST #dev")
        bob.expect_error("HIST", "DENIED")
        assert read(bob, "FIND model") == []
        assert read(bob, "HIST 1") == ["bob alice see you"]
    with come(daemon, "alice") as alice, daemon.connect() as stranger:
        assert read(alice, "FIND model") == []
        stranger.ask(f"READ alice {PASSWORD}", "OK READ")
        assert read(stranger, "FIND model") == []


def test_reading_goes_on_while_workers_and_the_historian_are_killed(daemon: Daemon) -> None:
    with come(daemon, "alice") as alice:
        for number in range(12):
            alice.send("HIST 2")
            if number % 3 == 2:
                kill_historian(daemon)
            elif number % 3:
                daemon.kill_worker(number % 2)
        for _ in range(12):
            lines = alice.read_until("OK HIST .*")
            assert lines[-1] == "OK HIST n=2 more=0"


def test_without_history_nothing_can_be_read(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(history_enabled=False)
    register(daemon, "alice")
    with come(daemon, "alice") as alice:
        for question in ("HIST", "FIND x"):
            alice.send(question)
            alice.expect_error(question[:4], "DENIED")


def test_a_history_that_cannot_be_read_is_an_error_for_who_asks(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    register(daemon, "alice")
    daemon.log.expect("history.failed", "history.replaced")
    where = daemon.directory.parent / "state" / "history.db"
    with come(daemon, "alice") as alice:
        assert read(alice, "HIST") == []
        for file in where.parent.glob("history.db*"):
            file.unlink()
        where.mkdir()
        alice.send("HIST")
        alice.expect_error("HIST", "INTERNAL")
        where.rmdir()
        daemon.log.wait_for("history.recovered")
        assert read(alice, "HIST") == []
