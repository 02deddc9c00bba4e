"""The rate limit: a paste is delayed, never lost, and nobody is thrown out for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon

LINES = 200


def test_a_paste_of_200_lines_is_delayed_and_nothing_of_it_is_lost(
    start_daemon: StartDaemon,
) -> None:
    """Others kicked an honest user for four lines (ssh-chat #363)."""
    rate, burst = 200, 20
    daemon = start_daemon(limits_lines_per_second=rate, limits_burst_lines=burst)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    line = "x" * 300  # so that the paste is more than one read
    start = time.monotonic()
    alice.send(*(f"@{n} CHAT bob {n} {line}" for n in range(LINES)), "PING done")
    assert bob.read_lines(LINES) == [f"CHAT alice {n} {line}" for n in range(LINES)]
    answers = alice.read_lines(LINES + 1)
    elapsed = time.monotonic() - start
    assert [a for a in answers if a.startswith("@")] == [f"@{n} OK CHAT bob" for n in range(LINES)]
    assert "OK PING done" in answers
    # What comes in one read is carried out together, and paid for before the next one.
    assert elapsed >= 0.5 * (LINES - burst) / rate
    alice.expect_nothing()
    alice.leave()


def test_a_paste_that_ends_with_the_connection_is_carried_out_whole(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(limits_lines_per_second=400, limits_burst_lines=20)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    line = "x" * 300
    alice.send(*(f"CHAT bob {n} {line}" for n in range(LINES)))
    alice.half_close()
    assert bob.read_lines(LINES) == [f"CHAT alice {n} {line}" for n in range(LINES)]
    assert alice.read_lines(LINES) == ["OK CHAT bob"] * LINES
    alice.expect_end()


def test_who_waits_for_the_rate_limit_is_reached_by_others(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_lines_per_second=20, limits_burst_lines=5, threads=1)
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 0)
    alice.send(*(f"PING {n}" for n in range(25)))
    alice.send("PING after.that")
    bob.say("alice", "take your time")
    lines = alice.read_until("OK PING after.that")
    assert "CHAT bob take your time" in lines
    assert [ln for ln in lines if ln.startswith("OK PING")] == [
        *(f"OK PING {n}" for n in range(25)),
        "OK PING after.that",
    ]
