"""The client as a person has it: in a real terminal, with a real daemon."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.waiting import until

if TYPE_CHECKING:
    from prefork_chat.addresses import Address
    from tests.harness.daemon import Daemon, StartDaemon
    from tests.terminal.conftest import OpenChat

BOTH = pytest.mark.parametrize("flags", [(), ("--plain",)], ids=["full-screen", "plain"])


def address_of(daemon: Daemon) -> Address:
    return daemon.addresses[0]


@BOTH
def test_two_people_talk(daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    bob = open_chat(address_of(daemon), "bob", *flags)
    alice.say("/msg bob are you there?")
    alice.wait_for("alice: are you there? ✓")
    bob.wait_for("alice: are you there?")
    bob.wait_for("bob → alice>")
    bob.say("yes, 你好 and e\u0301!")
    alice.wait_for("bob: yes, 你好 and e\u0301!")
    bob.say("/quit")
    bob.wait_for("ended: 0")
    assert bob.complaints() == ""
    alice.say("gone?")
    alice.wait_for("bob is not here")


@BOTH
def test_they_talk_on_while_workers_are_killed(
    start_daemon: StartDaemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    daemon = start_daemon(
        workers=2, respawn_quick_death_seconds=0.001, respawn_backoff_min_seconds=0.001
    )
    alice = open_chat(address_of(daemon), "alice", *flags)
    bob = open_chat(address_of(daemon), "bob", *flags)
    alice.say("/msg bob hello")
    bob.wait_for("alice: hello")
    for number in range(6):
        daemon.replace_worker(number % 2)
        alice.say(f"question {number}")
        bob.say(f"answer {number}")
        alice.wait_for(f"bob: answer {number}")
        bob.wait_for(f"alice: question {number}")
        alice.wait_for(f"question {number} ✓")
    for screen in (alice, bob):
        assert "no connection" not in screen.text(scrollback=True)


@BOTH
def test_what_is_being_typed_stays_while_messages_come(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    bob = daemon.join("bob")
    typed = "typed in a flood"
    bob.send("CHAT alice first")
    alice.wait_for("bob: first")
    started = time.monotonic()
    for number, character in enumerate(typed):
        alice.type(character)
        for _ in range(10):
            bob.send(f"CHAT alice flood {number}")
        # So many a second, if the machine can do that; later if it cannot.
        time.sleep(max(0.0, started + (number + 1) * 0.1 - time.monotonic()))
    bob.send("CHAT alice last")
    alice.wait_for("bob: last")
    until(lambda: f"alice → bob> {typed}" in alice.text().splitlines(), "what was typed")
    alice.type("", "Enter")
    alice.wait_for(f"alice: {typed} ✓")


@BOTH
def test_a_paste_of_200_lines_arrives_whole_and_in_order(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    bob = daemon.join("bob")
    alice.say("/msg bob here it comes")
    bob.expect("CHAT alice here it comes")
    alice.paste("".join(f"  line {number} of the paste\n" for number in range(200)) + "and more")
    bob.expect(*(f"CHAT alice   line {number} of the paste" for number in range(200)))
    alice.wait_for("alice → bob> and more")
    alice.wait_for("line 199 of the paste ✓")


@BOTH
def test_after_a_restart_of_the_daemon_it_connects_again(
    start_daemon: StartDaemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    first = start_daemon()
    address = address_of(first)
    alice = open_chat(address, "alice", *flags)
    alice.say("/msg bob")
    first.finish()
    alice.wait_for("no connection")
    alice.say("said without a connection")
    second = start_daemon(listen=str(address))
    alice.wait_for("connected again after")
    told = r"connection (✓|✗)|connection -- NOT DELIVERED"
    until(lambda: re.search(told, alice.text()), "the outcome to be told")
    bob = second.join("bob")
    alice.say("and now")
    while bob.read_line() != "CHAT alice and now":
        pass
    alice.wait_for("and now ✓")


@BOTH
def test_it_can_be_resized(daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags, columns=100, lines=30)
    daemon.join("bob")
    alice.say("/msg bob " + "word " * 30)
    alice.wait_for("word ✓")
    alice.type("half")
    for columns, lines in ((40, 10), (30, 5), (8, 3), (120, 40), (60, 12)):
        alice.resize(columns, lines)
    alice.type(" typed", "Enter")
    alice.wait_for("alice: half typed ✓")


@BOTH
def test_tab_completes_and_up_brings_back(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    daemon.join("barbara")
    alice = open_chat(address_of(daemon), "alice", *flags)
    alice.wait_for("alice>")  # what is typed before that is shown by the terminal itself
    alice.type("/ms", "Tab")
    alice.wait_for("> /msg")
    alice.type("bar", "Tab")
    alice.wait_for("> /msg barbara")
    alice.say("hi")
    alice.wait_for("alice: hi ✓")
    alice.type("", "Up", "Enter")
    until(lambda: alice.text().count("alice: hi ✓") == 2, "it to be said again")


@BOTH
def test_mentions_and_names_are_coloured_and_escapes_do_nothing(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    bob = daemon.join("bob")
    bob.send("CHAT alice plain", "CHAT alice hey Alice!", "CHAT alice \x1b[31;5mred\x1b]0;title\a")
    alice.wait_for("?[31;5mred?]0;title?")
    lines = alice.coloured().splitlines()
    (mention,) = [line for line in lines if "hey Alice!" in line]
    (harmless,) = [line for line in lines if "?[31;5mred" in line]
    assert re.search(r"\x1b\[(\d+;)*1(;\d+)*m.*hey Alice!", mention), "it is not bold"
    assert "\x1b[31;5m" not in harmless
    assert re.search(r"\x1b\[\d+m(\x1b\[\d+m)*bob", harmless), "the name has no colour"


def test_older_messages_are_scrolled_to_and_searched_for(
    daemon: Daemon, open_chat: OpenChat
) -> None:
    alice = open_chat(address_of(daemon), "alice", lines=12)
    bob = daemon.join("bob")
    for number in range(60):
        bob.send(f"CHAT alice number {number} of 60")
    alice.wait_for("number 59 of 60")
    alice.type("", "PageUp")
    alice.wait_for("older messages")
    alice.wait_until_gone("number 59 of 60")
    bob.send("CHAT alice and one more")
    alice.type("", "PageDown", "PageDown")
    alice.wait_for("and one more")
    alice.wait_until_gone("older messages")
    alice.type("", "C-f")
    alice.say("number 1")
    alice.wait_for("number 19 of 60")
    alice.type("", "Enter")
    alice.wait_for("number 18 of 60")
    alice.wait_until_gone("number 19 of 60")
    alice.type("", "Escape")
    alice.wait_for("alice → bob>")
    alice.say("back")
    alice.wait_for("alice: back ✓")


def test_unread_talks_are_counted_and_turned_to(daemon: Daemon, open_chat: OpenChat) -> None:
    alice = open_chat(address_of(daemon), "alice")
    bob, carol = daemon.join("bob"), daemon.join("carol")
    bob.send("CHAT alice hi")
    alice.wait_for("alice → bob>")
    carol.send("CHAT alice one", "CHAT alice two")
    alice.wait_for("unread: carol:2!")
    alice.type("", "M-a")
    alice.wait_for("alice → carol>")
    alice.wait_for("carol: two")
    alice.wait_until_gone("unread")
    alice.type("", "C-p")
    alice.wait_for("alice → bob>")
    alice.type("", "C-n")
    alice.wait_for("alice → carol>")


@BOTH
def test_a_taken_name_is_asked_for_anew(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    daemon.join("alice")
    screen = open_chat(address_of(daemon), "alice", *flags, wait=False)
    screen.wait_for("your name>")
    screen.say("alicia")
    screen.wait_for("you are alicia at")


@BOTH
def test_a_password_is_not_shown_and_not_remembered(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    name = f"pia{len(flags)}"  # it has a password from now on
    screen = open_chat(address_of(daemon), name, *flags)
    screen.say("/pass")
    screen.wait_for(f"new password for {name}")
    screen.type("correct horse")
    screen.wait_for("*************")
    screen.type("", "Enter")
    screen.wait_for(f"the name {name} is yours")
    screen.type("", "Up")
    screen.wait_for("> /pass")
    assert "correct" not in screen.text(scrollback=True)


@BOTH
def test_a_name_with_a_password_is_asked_for_it(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    name = f"dora{len(flags)}"
    dora = daemon.join(name)
    dora.ask("PASS correct horse", "OK PASS")
    dora.leave()
    screen = open_chat(address_of(daemon), name, *flags, wait=False)
    screen.wait_for(f"password of {name}")
    screen.say("wrong horse")
    screen.wait_for("the name or its password is not right")
    screen.wait_for(f"password of {name}")
    screen.say("correct horse")
    screen.wait_for(f"you are {name} at")
    assert "horse" not in screen.text(scrollback=True)


@BOTH
def test_a_room_is_talked_in(daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags, "--room", "#dev")
    bob = daemon.join("bob")
    bob.ask("ENTR #dev", "OK ENTR #dev n=2")
    alice.say("good morning")
    bob.expect("CHAT #dev alice good morning")
    alice.wait_for("alice: good morning ✓ 1")
    bob.ask("CHAT #dev morning, alice", "OK CHAT #dev n=1")
    alice.wait_for("bob: morning, alice")
    alice.say("/who #dev")
    alice.wait_for("2 here: alice, bob")
    alice.say("/part")
    alice.say("/rooms")
    alice.wait_for("1 rooms: #dev n=1")


@BOTH
@pytest.mark.parametrize("key", ["C-c", "C-d"])
def test_control_c_and_d_leave_an_empty_line(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...], key: str
) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    alice.type("", key)
    alice.wait_for("ended: 0")
    assert alice.complaints() == ""


def test_in_a_dumb_terminal_it_talks_in_lines(daemon: Daemon, open_chat: OpenChat) -> None:
    alice = open_chat(address_of(daemon), "alice", TERM="dumb")
    bob = daemon.join("bob")
    alice.say("/msg bob hello")
    bob.expect("CHAT alice hello")
    bob.send("CHAT alice hi \x1b[31mred")
    alice.wait_for("[to you] bob: hi ?[31mred")
    alice.say("/msg carol hello")
    alice.wait_for("to carol: hello -- NOT DELIVERED (carol is not here")
    assert "\x1b" not in alice.coloured()
    alice.type("", "C-d")
    alice.wait_for("ended: 0")
    assert alice.complaints() == ""


@BOTH
def test_it_says_good_bye_when_its_terminal_goes(
    daemon: Daemon, open_chat: OpenChat, flags: tuple[str, ...]
) -> None:
    alice = open_chat(address_of(daemon), "alice", *flags)
    alice.close()
    until(lambda: daemon.stat()["clients"] == 1, "alice to leave")
    assert alice.complaints() == ""
