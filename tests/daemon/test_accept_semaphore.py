"""Whoever holds the accept semaphore may be killed or stopped at any time: others accept."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.client import LineClient
from tests.harness.measuring import UNMEASURED
from tests.harness.processes import fd_count, status
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.daemon import Daemon, StartDaemon

KILLS = 1000
WORKERS = 4


def start_sturdy(start_daemon: StartDaemon, **options: object) -> Daemon:
    """Start a daemon in which dying young is nothing special."""
    daemon = start_daemon(
        environ=os.environ | UNMEASURED,
        workers=WORKERS,
        threads=1,
        respawn_quick_death_seconds=0.001,
        respawn_backoff_min_seconds=0.001,
        respawn_backoff_max_seconds=0.01,
        respawn_max_crashes=KILLS,
        **options,
    )
    daemon.log.expect(log.WORKER_EXITED, log.WORKER_THROTTLED)
    return daemon


def kill_holder(daemon: Daemon) -> None:
    """SIGKILL whoever holds the accept semaphore; return once he is buried."""
    pid = daemon.accept_holder()
    os.kill(pid, signal.SIGKILL)
    daemon.log.wait_for(log.WORKER_EXITED, pid=pid)


@pytest.mark.slow
def test_the_service_survives_the_killing_of_a_thousand_holders(start_daemon: StartDaemon) -> None:
    """Others were dead after one (uwsgi #1571, #2461)."""
    daemon = start_sturdy(start_daemon)
    supervisor_fds = fd_count(daemon.pid)
    for n in range(KILLS):
        kill_holder(daemon)
        if n % 50 == 0:
            with LineClient.connect(daemon.addresses[0]) as client:
                client.expect_greeting()
    until(
        lambda: fd_count(daemon.pid) == supervisor_fds,
        "the keeper to let go of those who have gone",
    )
    check_service(daemon)
    assert len(daemon.log.events(log.WORKER_EXITED, how="SIGKILL")) >= KILLS
    assert status(daemon.pid).threads == 1


def test_the_service_survives_the_killing_of_holder_and_waiters_together(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_sturdy(start_daemon)
    for waiters in (1, 2, 3) * 10:
        holder = daemon.accept_holder()
        others = [pid for pid in daemon.worker_pids() if pid != holder][:waiters]
        for pid in (holder, *others):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # its own end came first
        daemon.log.wait_for(log.WORKER_EXITED, pid=holder)
    check_service(daemon)


def test_a_stopped_holder_delays_accepting_no_longer_than_the_watchdog(
    start_daemon: StartDaemon,
) -> None:
    watchdog_seconds = 1.0
    daemon = start_sturdy(start_daemon, watchdog_seconds=watchdog_seconds)
    daemon.log.expect(log.WORKER_STUCK, log.WORKER_KILLED)
    people = {daemon.worker_pid(n): (f"in{n}", daemon.join(f"in{n}", n)) for n in range(WORKERS)}
    holder = daemon.stop_accept_holder()
    start = time.monotonic()
    newcomers = [LineClient.connect(daemon.addresses[0]) for _ in range(WORKERS)]
    del people[holder]
    (_, one), (name, other), *_ = people.values()
    one.say(name, "those who are inside do not notice")
    other.expect_match("CHAT in[0-3] those who are inside do not notice")
    for newcomer in newcomers:
        newcomer.expect_greeting()
        newcomer.close()
    # A second lies between SIGABRT, which a stopped process does not even get, and SIGKILL.
    assert time.monotonic() - start < watchdog_seconds + 1.0 + 2.0
    stuck = daemon.log.wait_for(log.WORKER_STUCK, pid=holder)
    killed = daemon.log.wait_for(log.WORKER_KILLED, pid=holder)
    assert (stuck["signal"], killed["signal"]) == ("SIGABRT", "SIGKILL")
    ended = daemon.log.wait_for(log.WORKER_EXITED, pid=holder)
    daemon.log.wait_for(log.WORKER_READY, p_id=ended["p_id"], generation=2)
    check_service(daemon)


def check_service(daemon: Daemon) -> None:
    """Two people at each worker talk to all others."""
    until(lambda: daemon.stat()["workers"] == WORKERS, "all workers to be back")
    people = {f"p{n}": daemon.join(f"p{n}", n % WORKERS) for n in range(2 * WORKERS)}
    for name, person in people.items():
        for other in people:
            person.send(f"CHAT {other} from {name}")
    for name, person in people.items():
        came = set(person.read_lines(2 * len(people)))
        assert came == {
            *(f"OK CHAT {other}" for other in people),
            *(f"CHAT {other} from {other}" for other in people),
        }, name
