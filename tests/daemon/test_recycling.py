"""Workers are replaced after so many connections, one after the other, and nobody notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

GAP_SECONDS = 2.0
"""The longest that anybody may have to wait: for a machine with much to do, not for a timeout."""

MOST_SERVED = 10_000

WORKERS = 4
LIMIT = 20
JITTER = 0.4


def test_clients_are_served_while_one_worker_after_the_other_is_replaced(
    start_daemon: StartDaemon,
) -> None:
    """Others lose lines then (gunicorn #3038)."""
    daemon = start_recycling(start_daemon)
    longest, n = 0.0, 0
    while len(daemon.log.events(log.WORKER_RETIRING)) < 3 * WORKERS:
        assert n < MOST_SERVED, "they do not retire"
        longest = max(longest, serve_two(daemon, n))
        n += 1
    assert longest < GAP_SECONDS
    assert not daemon.log.events(log.WORKER_THROTTLED)


@pytest.mark.slow
def test_workers_are_not_replaced_all_together(start_daemon: StartDaemon) -> None:
    """Without jitter all come to their limit in the same round (uwsgi #648)."""
    daemon = start_recycling(start_daemon)
    replaced, n = 0, 0
    while replaced < 5 * WORKERS:
        serve_two(daemon, n)
        n += 1
        # Let it come back first: who is the last to accept does not go at his limit but later.
        replaced = len(daemon.log.events(log.WORKER_RETIRING))
        daemon.log.wait_for(log.WORKER_READY, count=WORKERS + replaced)
    accepted = [event["accepted"] for event in daemon.log.events(log.WORKER_RETIRING)]
    assert LIMIT * (1 - JITTER) <= min(accepted) < LIMIT
    assert LIMIT < max(accepted) <= LIMIT * (1 + JITTER) + WORKERS


def start_recycling(start_daemon: StartDaemon) -> Daemon:
    return start_daemon(
        workers=WORKERS,
        threads=1,
        connections_per_process=LIMIT,
        connections_jitter=JITTER,
        respawn_quick_death_seconds=0.001,
    )


def serve_two(daemon: Daemon, n: int) -> float:
    """Two people join, talk and leave; return how many seconds they needed."""
    start = time.monotonic()
    alice, bob = daemon.join(f"alice{n}"), daemon.join(f"bob{n}")
    alice.send(f"CHAT bob{n} hi", "LEAV")
    bob.expect(f"CHAT alice{n} hi")
    alice.expect(f"OK CHAT bob{n}", "OK LEAV")
    alice.expect_end()
    alice.close()
    bob.leave()
    return time.monotonic() - start


def test_a_retiring_worker_hands_its_clients_over_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(connections_per_process=5, connections_jitter=0, threads=1)
    people = {"alice": daemon.join("alice", 0), "bob": daemon.join("bob", 1)}
    people["alice"].send_bytes(b"CHAT bob half a ")
    stranger = daemon.connect()
    while not daemon.log.events(log.WORKER_RETIRING):
        daemon.connect().close()
    retiring = daemon.log.events(log.WORKER_RETIRING)[0]["p_id"]
    ended = daemon.log.wait_for(log.WORKER_EXITED, p_id=retiring, generation=1)
    assert (ended["how"], ended["meaning"]) == ("exit 0", "retired")
    adopted = daemon.log.wait_for(log.SESSIONS_ADOPTED, p_id=retiring, generation=2)
    assert adopted["clients"] >= 1
    assert adopted["missing"] == 0
    people["alice"].send_bytes(b"line\n")
    people["alice"].expect("OK CHAT bob")
    people["bob"].expect("CHAT alice half a line")
    people["bob"].say("alice", "still with us?")
    people["alice"].expect("CHAT bob still with us?")
    stranger.join("stranger")
    for person in people.values():
        person.expect_nothing()
        person.leave()


@pytest.mark.parametrize("is_somebody_there", [False, True], ids=["alone", "with-a-stayer"])
def test_a_lone_worker_is_never_missed(start_daemon: StartDaemon, is_somebody_there: bool) -> None:
    daemon = start_daemon(workers=1, connections_per_process=3, respawn_quick_death_seconds=0.001)
    if is_somebody_there:
        stayer = daemon.join("stayer")
    longest = 0.0
    for n in range(30):
        start = time.monotonic()
        guest = daemon.join(f"guest{n}")
        if is_somebody_there:
            guest.say("stayer", f"{n}")
            stayer.expect(f"CHAT guest{n} {n}")
        guest.leave()
        longest = max(longest, time.monotonic() - start)
    assert longest < GAP_SECONDS
    assert len(daemon.log.events(log.WORKER_RETIRING)) >= 5


def test_a_lone_worker_is_replaced_under_those_who_stay(start_daemon: StartDaemon) -> None:
    """And again by the same number of newcomers: those whom it adopted do not count."""
    daemon = start_daemon(workers=1, connections_per_process=3, connections_jitter=0)
    people: dict[str, LineClient] = {}
    for generation in (1, 2, 3):
        for n in range(3):
            name = f"p{generation}.{n}"
            people[name] = daemon.join(name)
        daemon.log.wait_for(log.WORKER_READY, generation=generation + 1)
    retired = daemon.log.events(log.WORKER_RETIRING)
    assert [event["accepted"] for event in retired] == [3, 3, 3]
    for name, person in people.items():
        people["p1.0"].send(f"CHAT {name} did they let you stay?")
        assert "CHAT p1.0 did they let you stay?" in person.read_until("CHAT p1.0 .*")
    assert daemon.stat()["names"] == 9
