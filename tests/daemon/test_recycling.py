"""Workers are replaced after so many connections, one after the other, and nobody notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log

if TYPE_CHECKING:
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


def test_a_retiring_worker_serves_its_clients_until_they_leave(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(connections_per_process=5, connections_jitter=0, threads=1)
    alice = daemon.join("alice", 0)
    bob = daemon.join("bob", 1)
    while not daemon.log.events(log.WORKER_RETIRING):
        daemon.connect().close()
    retiring = daemon.log.events(log.WORKER_RETIRING)[0]["p_id"]
    for _ in range(20):  # the other worker accepts on its own now, whatever its own limit says
        daemon.connect(1 - retiring).close()
    alice.say("bob", "still with us?")
    bob.expect("CHAT alice still with us?")
    stayer = (alice, bob)[retiring]
    stayer.leave()
    ended = daemon.log.wait_for(log.WORKER_EXITED, p_id=retiring, generation=1)
    assert (ended["how"], ended["meaning"]) == ("exit 0", "retired")
    daemon.log.wait_for(log.WORKER_READY, p_id=retiring, generation=2)
    daemon.join("carol", retiring)


@pytest.mark.parametrize("is_somebody_there", [False, True], ids=["alone", "with-a-stayer"])
def test_a_lone_worker_is_never_missed(start_daemon: StartDaemon, is_somebody_there: bool) -> None:
    daemon = start_daemon(workers=1, connections_per_process=3, respawn_quick_death_seconds=0.001)
    if is_somebody_there:
        daemon.join("stayer")
    longest = 0.0
    for n in range(30):
        start = time.monotonic()
        daemon.join(f"guest{n}").leave()
        longest = max(longest, time.monotonic() - start)
    assert longest < GAP_SECONDS


def test_a_lone_worker_does_not_retire_while_the_last_that_it_accepted_is_there(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(workers=1, connections_per_process=3, connections_jitter=0)
    for _ in range(2):
        daemon.connect().close()
    last = daemon.join("last")
    start = time.monotonic()
    late = daemon.join("late")
    assert time.monotonic() - start < GAP_SECONDS
    late.say("last", "did they let you stay?")
    last.expect("CHAT late did they let you stay?")


def test_a_lone_worker_retires_when_it_has_nobody(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=1, connections_per_process=3, connections_jitter=0)
    people = [daemon.join(f"p{n}") for n in range(6)]
    assert not daemon.log.events(log.WORKER_RETIRING)
    for person in people:
        person.leave()
    daemon.log.wait_for(log.WORKER_READY, generation=2)
    daemon.join("next")
