"""The client with a server that keeps what was said: scrolling back, catching up, nothing twice."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.harness.waiting import until
from tests.terminal.commands import running
from tests.terminal.relay import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.addresses import Address
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon
    from tests.terminal.conftest import OpenChat
    from tests.terminal.tmux import Screen

PASSWORD = "correct horse battery"
BOTH = pytest.mark.parametrize("flags", [(), ("--plain",)], ids=["full-screen", "plain"])


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    """A daemon in which alice has an account."""
    daemon = start_daemon()
    alice = daemon.join("alice")
    alice.ask(f"PASS {PASSWORD}", "OK PASS")
    alice.leave()
    return daemon


def join_as_account(daemon: Daemon, name: str) -> LineClient:
    client = daemon.join(name)
    client.ask(f"PASS {PASSWORD}", "OK PASS")
    return client


def open_alice(open_chat: OpenChat, address: Address, *flags: str) -> Screen:
    environ = {"PREFORK_CHAT_PASSWORD": PASSWORD}
    screen = open_chat(address, "alice", *flags, lines=16, wait=False, **environ)
    screen.wait_for(" alice ")  # the status line of who has joined
    return screen


def members_of_the_only_room(client: LineClient) -> int:
    client.send("ROOM")
    room, _ = client.read_lines(2)
    return int(room.split()[3].removeprefix("n="))


def count(screen: Screen, text: str) -> int:
    return screen.text(scrollback=True).count(text)


def test_what_was_said_before_is_scrolled_back_to(daemon: Daemon, open_chat: OpenChat) -> None:
    bob = join_as_account(daemon, "bob")
    for number in range(200):
        bob.ask(f"CHAT alice number {number} of 200", "OK CHAT alice stored")
    alice = open_alice(open_chat, daemon.addresses[0])
    alice.wait_for("number 199 of 200")
    for _ in range(40):
        alice.type("", "PageUp")
        if "number 0 of 200" in alice.text():
            break
    alice.wait_for("number 0 of 200")
    numbers = [line.split()[-3] for line in alice.text().splitlines() if " of 200" in line]
    assert numbers == [str(number) for number in range(len(numbers))]
    alice.type("", "C-f")
    alice.say("bob: number 150")
    # It is newer than what is shown, and older ones are looked for.
    alice.type("", "Escape", "C-f")
    alice.wait_for("search")


def test_search_goes_on_in_the_servers_history(daemon: Daemon, open_chat: OpenChat) -> None:
    bob = join_as_account(daemon, "bob")
    bob.ask("CHAT alice the needle", "OK CHAT alice stored")
    for number in range(150):
        bob.ask(f"CHAT alice hay {number}", "OK CHAT alice stored")
    alice = open_alice(open_chat, daemon.addresses[0])
    alice.wait_for("hay 149")
    alice.say("/find needle")
    alice.wait_for("found 1 with: needle")
    alice.say("/msg bob")
    alice.type("", "C-f")
    alice.say("the needle")
    alice.wait_for("older messages")
    alice.type("", "Enter")
    alice.wait_for("bob: the needle")
    alice.wait_until_gone("hay 149")


@BOTH
def test_what_was_missed_is_caught_up_with_and_shown_once(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    bob = join_as_account(daemon, "bob")
    bob.ask("ENTR #dev", "OK ENTR #dev n=1")
    with Relay(daemon.addresses[0]) as network:
        alice = open_alice(open_chat, network.address, *flags, "--room", "#dev")
        until(lambda: members_of_the_only_room(bob) == 2, "alice to enter the room")
        bob.ask("CHAT #dev before", "OK CHAT #dev n=1")
        alice.wait_for("bob: before")
        network.fail()
        alice.wait_for("no connection")
        until(lambda: daemon.stat()["names"] == 1, "the server to notice")
        alice.say("typed meanwhile")
        bob.ask("CHAT #dev missed in the room", "OK CHAT #dev n=0")
        bob.ask("CHAT alice missed alone", "OK CHAT alice stored")
        network.work()
        alice.wait_for("connected again after")
        alice.wait_for("missed in the room")
        bob.expect("CHAT #dev alice typed meanwhile")
        alice.wait_for("typed meanwhile ✓")
        bob.send("CHAT #dev after")
        alice.wait_for("bob: after")
        if not flags:
            alice.type("", "C-n")
        alice.wait_for("missed alone")
        if not flags:
            alice.type("", "C-p")
            alice.wait_for("missed in the room")
        for text in ("bob: before", "bob: missed in the room", "typed meanwhile ✓", "bob: after"):
            assert count(alice, text) == 1, text


@BOTH
def test_a_message_whose_receipt_was_lost_is_found_and_not_sent_again(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    bob = join_as_account(daemon, "bob")
    with Relay(daemon.addresses[0]) as network:
        alice = open_alice(open_chat, network.address, *flags)
        alice.say("/msg bob hello")
        alice.wait_for("hello ✓")
        bob.expect("CHAT alice hello")
        network.is_deaf = True
        alice.say("did this arrive?")
        bob.expect("CHAT alice did this arrive?")
        network.fail()
        alice.wait_for("no connection")
        until(lambda: daemon.stat()["names"] == 1, "the server to notice")
        network.work()
        alice.wait_for("connected again after")
        until(
            lambda: count(alice, "✓ stored") or count(alice, "stored: will be delivered"),
            "it to be found",
        )
        alice.say("and this?")
        bob.expect("CHAT alice and this?")


def test_a_listener_misses_nothing(daemon: Daemon, tmp_path: Path) -> None:
    bob = join_as_account(daemon, "bob")
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    bob.ask("ENTR #dev", "OK ENTR #dev n=1")
    with (
        Relay(daemon.addresses[0]) as network,
        running(
            *("listen", "--server", str(network.address), "--name", "alice", "--room", "#dev"),
            *("--password-file", str(password)),
        ) as listener,
    ):
        until(lambda: b" OK HIST " in network.heard, "it to know where catching up begins")
        for number in range(5):
            bob.send(f"CHAT #dev live {number}")
            assert listener.out().endswith(f"#dev bob: live {number}")
            network.fail()
            until(lambda: daemon.stat()["names"] == 1, "the server to notice")
            bob.send(f"CHAT #dev missed {number}")
            network.heard.clear()
            network.work()
            assert listener.out().endswith(f"#dev bob: missed {number}")
            until(lambda: b" OK ENTR " in network.heard, "it to be in the room again")
        assert listener.end(signal.SIGTERM) == 0
