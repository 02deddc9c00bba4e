"""Every command and every error of the protocol, as it comes over a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.chat.commands import COMMANDS

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon


def test_join_refuses_a_name_in_use_at_any_worker(daemon: Daemon) -> None:
    daemon.join("alice", 0)
    for worker in (0, 1):
        other = daemon.connect(worker)
        other.send("JOIN alice", "@j JOIN Alice")
        other.expect_error("JOIN", "INUSE", "alice")
        other.expect_error("JOIN", "INUSE", "Alice", tag="j")
        other.join(f"alice{worker}")


@pytest.mark.parametrize("name", ["-a", ".a", "_a", "#room", "@tag", "*", "a" * 33, "ä", "a/b"])
def test_join_refuses_what_is_no_name(daemon: Daemon, name: str) -> None:
    client = daemon.connect()
    client.send(f"JOIN {name}")
    client.expect_error("JOIN", "BADNAME")
    client.join("z" * 32)


@pytest.mark.parametrize("name", ["a", "7", "a" * 32, "A.b-C_9", "0.-_"])
def test_join_takes_what_is_a_name(daemon: Daemon, name: str) -> None:
    daemon.join(name)


def test_join_needs_a_name(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send("JOIN", "@1 JOIN  ")
    client.expect_error("JOIN", "BADARGS")
    client.expect_error("JOIN", "BADARGS", tag="1")


def test_join_is_refused_to_who_has_a_name(daemon: Daemon) -> None:
    alice = daemon.join("alice")
    alice.send("@x JOIN bob")
    alice.expect_error("JOIN", "JOINED", tag="x")
    assert daemon.stat()["names"] == 1


def test_chat_needs_a_name_of_one_s_own(daemon: Daemon) -> None:
    daemon.join("bob")
    client = daemon.connect()
    client.send("CHAT bob hi", "@1 CHAT bob hi")
    client.expect_error("CHAT", "NOJOIN", "bob")
    client.expect_error("CHAT", "NOJOIN", "bob", tag="1")


@pytest.mark.parametrize(
    ("line", "code", "about"),
    [
        ("CHAT", "BADARGS", ""),
        ("CHAT bob", "BADARGS", "bob"),
        ("CHAT bob ", "BADARGS", "bob"),
        ("CHAT  bob hi", "BADARGS", ""),
        ("CHAT nobody hi", "NOUSER", "nobody"),
        ("CHAT #dev hi", "NOROOM", "#dev"),
        ("CHAT #d/v hi", "BADNAME", "#d/v"),
        ("CHAT b/b hi", "BADNAME", "b/b"),
        (f"CHAT {'x' * 40} hi", "BADNAME", f"{'x' * 33}..."),
    ],
)
def test_chat_says_why_a_message_goes_nowhere(
    daemon: Daemon, line: str, code: str, about: str
) -> None:
    bob = daemon.join("bob")
    alice = daemon.join("alice")
    alice.send(line, f"@t {line}")
    alice.expect_error("CHAT", code, about)
    alice.expect_error("CHAT", code, about, tag="t")
    alice.expect_nothing()
    bob.expect_nothing()


@pytest.mark.parametrize("verb", ["LEAV", "QUIT", "leav", "quit"])
def test_leav_and_quit_free_the_name_and_close(daemon: Daemon, verb: str) -> None:
    alice = daemon.join("alice", 0)
    alice.ask(f"@bye {verb}", "@bye OK LEAV")
    alice.expect_end()
    daemon.join("alice", 1)


def test_leav_without_a_name_closes_too(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send("LEAV now")
    client.expect_error("LEAV", "BADARGS")
    client.leave()


def test_ping_returns_its_token(daemon: Daemon) -> None:
    client = daemon.connect()
    client.ask("PING", "OK PING")
    client.ask("ping Token-1", "OK PING Token-1")
    client.send("PING two words")
    client.expect_error("PING", "BADARGS")


def test_whos_lists_everybody_once_as_typed(daemon: Daemon) -> None:
    client = daemon.connect()
    client.ask("WHOS", "OK WHOS n=0")
    names = ["Alice", "bob", "CAROL", "dave"]
    for n, name in enumerate(names):
        daemon.join(name, n % 2)
    client.send("@w WHOS")
    assert set(client.read_lines(4)) == {f"@w DATA WHOS {name}" for name in names}
    client.expect("@w OK WHOS n=4")
    client.send("WHOS #room", "WHOS me")
    client.expect_error("WHOS", "NOROOM", "#room")
    client.expect_error("WHOS", "BADARGS")


def test_stat_counts_clients_names_and_messages(daemon: Daemon) -> None:
    before = daemon.stat()
    assert (before["workers"], before["loops"]) == (2, 4)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    for n in range(5):
        alice.say("bob", f"{n}")
    bob.read_lines(5)
    after = daemon.stat()
    assert after["names"] == 2
    assert after["clients"] == 3  # the one who asks among them
    assert after["delivered"] == before["delivered"] + 5
    assert after["accepted"] >= before["accepted"] + 3


def test_helo_lists_the_extras_that_are_on(daemon: Daemon) -> None:
    client = daemon.connect()
    client.ask("HELO", "OK HELO")
    client.ask("HELO time ids", "OK HELO")
    client.send("HELO loud")
    client.expect_error("HELO", "BADARGS")
    client.ask("HELO Quiet time", "OK HELO quiet")
    client.ask("HELO", "OK HELO quiet")


def test_help_lists_every_command_and_explains_each(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send("HELP")
    *lines, last = client.read_until("OK HELP")
    assert last == "OK HELP"
    verbs = [verb.decode() for verb in COMMANDS]
    assert [line.split()[2] for line in lines] == verbs
    for verb in verbs:
        client.send(f"@h HELP {verb.lower()}")
        *lines, _ = client.read_until("@h OK HELP")
        assert lines[0].startswith(f"@h DATA HELP {verb}")
        assert len(lines) > 1
    client.send("HELP nothing")
    client.expect_error("HELP", "BADVERB", "nothing")


@pytest.mark.parametrize("line", ["hello everybody", "JOIN\tbob", "/join bob", "CHATTER x", " "])
def test_what_is_no_command_is_told_so(daemon: Daemon, line: str) -> None:
    client = daemon.connect()
    client.send(line, f"@a {line}")
    client.expect_error("*", "BADVERB")
    client.expect_error("*", "BADVERB", tag="a")
    client.expect_nothing()


@pytest.mark.parametrize("tag", ["@", "@ü", "@" + "x" * 33, "@@1"])
def test_what_is_no_tag_is_told_so(daemon: Daemon, tag: str) -> None:
    client = daemon.connect()
    client.send(f"{tag} PING")
    client.expect_error("*", "BADARGS")
    client.expect_nothing()


def test_answers_come_in_the_order_of_the_commands(daemon: Daemon) -> None:
    client = daemon.connect()
    client.send("PING 1", "nonsense", "JOIN alice", "PING 2", "JOIN again", "HELO", "PING 3")
    first_words = [" ".join(line.split()[:3]) for line in client.read_lines(7)]
    assert first_words == [
        "OK PING 1",
        "ERR * BADVERB",
        "OK JOIN alice",
        "OK PING 2",
        "ERR JOIN JOINED",
        "OK HELO",
        "OK PING 3",
    ]
