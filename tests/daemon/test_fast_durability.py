"""`durability = "fast"`: a kill may cost what was under way, and nothing else; people are told."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_chat.addresses import Address
    from tests.harness.daemon import Daemon, StartDaemon

RESUMED = r"NOTE RESUMED: .*"
LONG = "x" * 900
TINY_BYTES = 2048


@pytest.fixture
def fast_daemon(start_daemon: StartDaemon, tmp_path: Path) -> Daemon:
    return start_daemon(
        durability="fast",
        threads=1,
        listen=["127.0.0.1:0", f"unix:{tmp_path / 'chat.sock'}"],
        respawn_quick_death_seconds=0.001,
    )


def test_clients_stay_and_are_told_when_their_worker_is_killed(fast_daemon: Daemon) -> None:
    alice, bob = fast_daemon.join("alice", 0), fast_daemon.join("bob", 1)
    alice.say("bob", "hi")
    bob.expect("CHAT alice hi")
    for n in range(3):
        fast_daemon.replace_worker(0)
        alice.expect_match(RESUMED)
        alice.say("bob", f"{n}")
        bob.expect(f"CHAT alice {n}")
        bob.say("alice", "that was quick")
        alice.expect("CHAT bob that was quick")
    bob.expect_nothing()  # nobody else is told
    alice.expect_nothing()
    thief = fast_daemon.connect(1)
    thief.send("JOIN alice")
    thief.expect_error("JOIN", "INUSE", "alice")
    alice.leave()
    until(lambda: fast_daemon.stat()["names"] == 1, "alice's name to be free")


def test_who_has_not_joined_and_who_is_quiet_are_what_they_were(fast_daemon: Daemon) -> None:
    stranger, quiet = fast_daemon.connect(0), fast_daemon.join("quiet", 0)
    bob = fast_daemon.join("bob", 1)
    quiet.ask("HELO quiet", "OK HELO quiet")
    fast_daemon.replace_worker(0)
    stranger.expect_match(RESUMED)
    quiet.expect_match(RESUMED)
    stranger.join("stranger")
    quiet.send("CHAT bob no receipt for me")
    bob.expect("CHAT quiet no receipt for me")
    quiet.expect_nothing()


def test_over_a_unix_socket_it_is_the_same(fast_daemon: Daemon) -> None:
    address: Address = fast_daemon.addresses[1]
    people = {f"p{n}": fast_daemon.connect(address=address) for n in range(4)}
    for name, person in people.items():
        person.join(name)
    for p_id in (0, 1):
        fast_daemon.replace_worker(p_id)
    for person in people.values():
        person.expect_match(RESUMED)
    speaker = people.pop("p0")
    for name, person in people.items():
        speaker.say(name, "all there?")
        person.expect("CHAT p0 all there?")


def test_a_torn_line_is_ended_before_anything_else_is_written(fast_daemon: Daemon) -> None:
    """What a slow reader was owed is lost; whatever he reads next begins a line."""
    alice, bob = fast_daemon.join("alice", 1), fast_daemon.join("bob", 0, receive_bytes=TINY_BYTES)
    sent = answered = 0
    with suppress(AssertionError):  # some are held back: no answer comes
        while True:
            alice.send(*(f"CHAT bob {n} {LONG}" for n in range(sent, sent + 50)))
            sent += 50
            while answered < sent:
                assert alice.read_line(seconds=2.0) == "OK CHAT bob"
                answered += 1
    fast_daemon.replace_worker(0)
    *came, torn, end = bob.read_until(RESUMED)
    if torn == "":  # it was a whole line that was written last, and then an empty one
        torn = came.pop()
    assert came == [f"CHAT alice {n} {LONG}" for n in range(len(came))]
    assert f"CHAT alice {len(came)} {LONG}".startswith(torn)
    assert answered <= len(came) + 1, "what was confirmed had been handed over"
    assert end.startswith("NOTE RESUMED: ")
    # What still waited in the pairs comes now, in whole lines.
    alice.send("@last CHAT bob well again")
    late = bob.read_until("CHAT alice well again")[:-1]
    assert late == [f"CHAT alice {n} {LONG}" for n in range(sent - len(late), sent)]
    assert set(alice.read_until("@last OK CHAT bob")[:-1]) <= {"OK CHAT bob"}
    for client in (alice, bob):
        client.expect_nothing()


def test_a_client_that_leaves_after_a_kill_waits_for_no_answer_that_was_lost(
    fast_daemon: Daemon,
) -> None:
    alice, bob = fast_daemon.join("alice", 0), fast_daemon.join("bob", 1)
    with fast_daemon.stopped_worker(1):
        alice.send(*(f"CHAT bob {n}" for n in range(10)), "PING all.read")
        alice.expect("OK PING all.read")
        alice.ask("PING all.sent", "OK PING all.sent")  # an answer is written before others are
        fast_daemon.replace_worker(0)
        alice.expect_match(RESUMED)
        alice.ask("LEAV", "OK LEAV")
        alice.expect_end(seconds=2.0)
    assert bob.read_lines(10) == [f"CHAT alice {n}" for n in range(10)]
    bob.expect_nothing()


def test_messages_that_wait_in_the_pairs_of_a_killed_worker_are_not_lost(
    fast_daemon: Daemon,
) -> None:
    alice, bob = fast_daemon.join("alice", 0), fast_daemon.join("bob", 1)
    with fast_daemon.stopped_worker(1):
        alice.send(*(f"CHAT bob {n}" for n in range(10)), "PING all.read")
        alice.expect("OK PING all.read")
        alice.ask("PING all.sent", "OK PING all.sent")
        fast_daemon.kill_worker(1)
    bob.expect_match(RESUMED)
    assert bob.read_lines(10) == [f"CHAT alice {n}" for n in range(10)]
    assert alice.read_lines(10) == ["OK CHAT bob"] * 10


def test_the_durability_stays_what_it_was_until_a_restart(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    """What one worker has read of a line the next would look for in the kernel."""
    config = tmp_path / "chat.toml"
    config.write_text('[server]\ndurability = "fast"\n')
    daemon = start_daemon(config=str(config), workers=1)
    daemon.log.expect(log.CONFIG_KEPT)
    alice, bob = daemon.join("alice"), daemon.join("bob")
    alice.send_bytes(b"CHAT bob half a ")
    config.write_text('[server]\ndurability = "exact"\n')
    daemon.signal(signal.SIGHUP)
    assert daemon.log.wait_for(log.CONFIG_KEPT)["keys"] == ["server.durability"]
    daemon.log.wait_for(log.REPLACEMENT_FINISHED)
    alice.send_bytes(b"line\n")
    bob.expect("CHAT alice half a line")
    alice.expect("OK CHAT bob")
