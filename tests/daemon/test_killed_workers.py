"""A worker is killed, and nobody notices: not those who were with it, not those who write to them.

`durability = "exact"`, the default; tests of the other one are in `test_fast_durability`.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.processes import fd_count, status
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon


def test_clients_keep_their_connections_and_names_when_their_worker_is_killed(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    victims = {f"victim{n}": daemon.join(f"victim{n}", 0) for n in range(5)}
    witness = daemon.join("witness", 1)
    witness.say("victim0", "hi")
    victims["victim0"].expect("CHAT witness hi")
    daemon.replace_worker(0)
    thief = daemon.connect()
    for name, victim in victims.items():
        thief.send(f"JOIN {name}")
        thief.expect_error("JOIN", "INUSE", name)
        witness.say(name, "did you notice anything?")
        victim.expect("CHAT witness did you notice anything?")
        victim.say("witness", "no")
        witness.expect(f"CHAT {name} no")
        victim.expect_nothing()
    assert daemon.stat()["names"] == 6
    until(lambda: daemon.stat()["clients"] == 8, "the thief, and whoever asks, to be all others")
    for victim in victims.values():
        victim.leave()
    until(lambda: daemon.stat()["names"] == 1, "the names of those who left to be free")


def test_people_talk_on_while_a_worker_is_killed_again_and_again(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=3, respawn_quick_death_seconds=0.001)
    alice, bob, victim = daemon.join("alice", 1), daemon.join("bob", 2), daemon.join("victim", 0)
    supervisor_fds = fd_count(daemon.pid)
    threads = status(daemon.pid).threads
    for round_ in range(10):
        generation = daemon.generation(0)
        daemon.kill_worker(0)
        n = 0
        while not daemon.log.events(log.WORKER_READY, p_id=0, generation=generation + 1):
            alice.say("bob", f"{round_} {n}")
            bob.expect(f"CHAT alice {round_} {n}")
            bob.say("alice", "yes")
            alice.expect("CHAT bob yes")
            n += 1
        alice.say("victim", f"{round_}")
        victim.expect(f"CHAT alice {round_}")
        victim.say("alice", "still here")
        alice.expect("CHAT victim still here")
    assert fd_count(daemon.pid) == supervisor_fds
    assert status(daemon.pid).threads == threads == 1


def test_messages_on_their_way_to_a_worker_that_is_killed_arrive_once(
    start_daemon: StartDaemon,
) -> None:
    """They wait for the successor, also if it takes its time, in the pairs."""
    daemon = start_daemon(threads=1, respawn_quick_death_seconds=60, respawn_backoff_min_seconds=1)
    alice, bob, carol = daemon.join("alice", 0), daemon.join("bob", 1), daemon.join("carol", 0)
    with daemon.stopped_worker(1):
        alice.send(*(f"@{n} CHAT bob {n}" for n in range(100)))
        alice.say("carol", "these are out now")
        carol.expect("CHAT alice these are out now")
        daemon.kill_worker(1)
    assert bob.read_lines(100) == [f"CHAT alice {n}" for n in range(100)]
    assert alice.read_lines(100) == [f"@{n} OK CHAT bob" for n in range(100)]
    bob.expect_nothing()
    alice.expect_nothing()


def test_what_a_client_said_to_a_worker_that_is_killed_is_carried_out_once(
    start_daemon: StartDaemon,
) -> None:
    """It waits in the kernel: whole lines and half a line, a JOIN and a LEAV among them."""
    daemon = start_daemon(threads=1)
    bob = daemon.join("bob", 1)
    alice, late, leaver = daemon.join("alice", 0), daemon.connect(0), daemon.join("leaver", 0)
    halves = daemon.join("halves", 0)
    halves.send_bytes(b"PING 1\nCHAT bob first ha")
    halves.expect("OK PING 1")  # so the half line has been looked at
    with daemon.stopped_worker(0):
        alice.send(*(f"@{n} CHAT bob {n}" for n in range(100)))
        late.send("JOIN late", "CHAT bob I am here")
        leaver.send("CHAT bob bye", "LEAV", "CHAT bob too late")
        daemon.kill_worker(0)
    assert alice.read_lines(100) == [f"@{n} OK CHAT bob" for n in range(100)]
    late.expect("OK JOIN late", "OK CHAT bob")
    leaver.expect("OK CHAT bob", "OK LEAV")
    leaver.expect_end()
    halves.send_bytes(b"lf, second half\n")
    halves.expect("OK CHAT bob")
    came = bob.read_lines(103)
    assert [line for line in came if line.startswith("CHAT alice ")] == [
        f"CHAT alice {n}" for n in range(100)
    ]
    others = ["CHAT halves first half, second half", "CHAT late I am here", "CHAT leaver bye"]
    assert sorted(line for line in came if not line.startswith("CHAT alice ")) == others
    for client in (alice, bob, late, halves):
        client.expect_nothing()


def test_a_client_that_hung_up_while_its_worker_was_dead_is_gone_with_its_successor(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(threads=1)
    alice = daemon.join("alice", 1)
    resets, closes, ends = (daemon.join(name, 0) for name in ("resets", "closes", "ends"))
    with daemon.stopped_worker(0):
        daemon.kill_worker(0)
        resets.reset()
        closes.close()
        ends.send("CHAT alice my last words")
        ends.half_close()
    alice.expect("CHAT ends my last words")
    ends.expect("OK CHAT alice")
    ends.expect_end()
    until(lambda: daemon.stat()["names"] == 1, "the names to be free")
    for name in ("resets", "closes", "ends"):
        alice.send(f"CHAT {name} hello?")
        alice.expect_error("CHAT", "NOUSER", name)
        daemon.join(name, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_all_workers_may_be_killed_at_once(
    start_daemon: StartDaemon, number: signal.Signals
) -> None:
    daemon = start_daemon(workers=3)
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    if number is signal.SIGSEGV:
        daemon.log.expect_text("")  # a stack dump is as long as it likes
    people = {f"p{n}": daemon.join(f"p{n}", n % 3) for n in range(6)}
    strangers = [daemon.connect(n) for n in range(3)]
    for pid in daemon.worker_pids():
        os.kill(pid, number)
    for p_id in range(3):
        daemon.log.wait_for(log.WORKER_READY, p_id=p_id, generation=2)
    for name, person in people.items():
        for other, listener in people.items():
            if other != name:
                person.say(other, f"to {other}")
                listener.expect(f"CHAT {name} to {other}")
    for n, stranger in enumerate(strangers):
        stranger.join(f"stranger{n}")
    assert daemon.stat()["names"] == 9
