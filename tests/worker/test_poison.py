"""A line that our own fault makes deadly is read again by every successor; not for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat import log
from prefork_chat.worker.journal import MOST_DEATHS

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon


def test_a_client_whose_line_kills_every_worker_is_sent_away_and_nobody_else(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(
        program="tests.worker.poisoned", workers=1, threads=1, respawn_backoff_min_seconds=0.01
    )
    daemon.log.expect(
        log.WORKER_FAILED, log.WORKER_EXITED, log.WORKER_THROTTLED, log.CLIENT_EXPELLED
    )
    alice, bob, eve = daemon.join("alice"), daemon.join("bob"), daemon.join("eve")
    eve.send("CHAT alice before", "POISON", "CHAT alice after")
    daemon.log.wait_for(log.CLIENT_EXPELLED)
    assert len(daemon.log.events(log.WORKER_FAILED)) == MOST_DEATHS
    eve.expect_error("*", "INTERNAL")
    eve.expect_end()
    alice.say("bob", "still here?")
    bob.expect("CHAT alice still here?")
    bob.say("alice", "yes")
    alice.expect("CHAT bob yes")
    alice.expect_nothing()
