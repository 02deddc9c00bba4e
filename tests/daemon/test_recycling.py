"""Workers are replaced after so many connections, one after the other, and nobody notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon

GAP_SECONDS = 2.0
"""The longest that anybody may have to wait: for a machine with much to do, not for a timeout."""

MOST_SERVED = 10_000


def test_workers_are_replaced_at_different_times_and_all_the_while_clients_are_served(
    start_daemon: StartDaemon,
) -> None:
    """Others recycle all together (uwsgi #648) or lose lines then (gunicorn #3038)."""
    workers, limit, jitter = 4, 20, 0.4
    daemon = start_daemon(
        workers=workers,
        threads=1,
        connections_per_process=limit,
        connections_jitter=jitter,
        respawn_quick_death_seconds=0.001,
    )
    longest, served = 0.0, 0
    while len(daemon.log.events(log.WORKER_RETIRING)) < 6 * workers:
        assert served < MOST_SERVED, "they do not retire"
        start = time.monotonic()
        alice, bob = daemon.join(f"alice{served}"), daemon.join(f"bob{served}")
        alice.send(f"CHAT bob{served} hi", "LEAV")
        bob.expect(f"CHAT alice{served} hi")
        alice.expect(f"OK CHAT bob{served}", "OK LEAV")
        alice.expect_end()
        alice.close()
        bob.leave()
        longest = max(longest, time.monotonic() - start)
        served += 1
    assert longest < GAP_SECONDS
    # Each draws when it goes, around the limit; the last that accepts waits for another to be back.
    accepted = [event["accepted"] for event in daemon.log.events(log.WORKER_RETIRING)]
    assert limit * (1 - jitter) <= min(accepted) < limit < max(accepted)
    assert len({count for count in accepted if count < limit}) > 1
    assert not daemon.log.events(log.WORKER_THROTTLED)


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
