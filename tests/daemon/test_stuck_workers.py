"""A worker that lives but does nothing any more: the watchdog's business, with the real worker."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefork_chat import log
from tests.harness.ipc import PURPOSES

if TYPE_CHECKING:
    from tests.harness.daemon import StartDaemon

ANYTHING = ""


def test_a_worker_whose_loops_hang_dumps_its_stacks_and_is_replaced(
    start_daemon: StartDaemon,
) -> None:
    """A JOIN takes the registry's write semaphore, which somebody here holds for too long.

    His client waits, however many workers try it, and everybody else at that worker too.
    """
    daemon = start_daemon(watchdog_seconds=0.5)
    daemon.log.expect(log.WORKER_STUCK, log.WORKER_EXITED, log.WORKER_THROTTLED, log.WORKER_KILLED)
    daemon.log.expect_text(ANYTHING)
    alice, bob = daemon.join("alice", 1), daemon.join("bob", 1)
    victim, neighbour = daemon.connect(0), daemon.join("neighbour", 0)
    with daemon.objects.held("write"):
        victim.send("JOIN victim")
        daemon.log.wait_for(log.WORKER_STUCK, p_id=0, signal="SIGABRT")
        daemon.log.wait_for_text("Fatal Python error: Aborted")
        daemon.log.wait_for_text(r'registry/ipc\.py", line \d+ in acquire')
        alice.say("bob", "all well at the other worker")
        bob.expect("CHAT alice all well at the other worker")
        alice.send("CHAT neighbour and at yours?")
    ended = daemon.log.wait_for(log.WORKER_EXITED, p_id=0, generation=1)
    assert ended["how"] == "SIGABRT"
    victim.expect("OK JOIN victim")
    neighbour.expect("CHAT alice and at yours?")
    alice.expect("OK CHAT neighbour")
    alice.say("victim", "you made it")
    victim.expect("CHAT alice you made it")


def test_healthy_workers_are_left_alone_by_the_shortest_watchdog(
    start_daemon: StartDaemon,
) -> None:
    """Idle ones sleep; they must wake up often enough to say that they live."""
    daemon = start_daemon(
        watchdog_seconds=0.5,
        limits_lines_per_second=2,
        limits_burst_lines=1,
        history_enabled=False,  # a process that ends has no heartbeat while it writes its coverage
        board_enabled=False,
    )
    alice = daemon.join("alice")
    alice.send("PING 1", "PING 2", "PING 3")  # read at once, and paid for with an idle second
    alice.expect("OK PING 1", "OK PING 2", "OK PING 3")
    alice.ask("PING later", "OK PING later")
    assert not daemon.log.events(log.WORKER_STUCK)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_daemon_whose_semaphore_was_removed_says_so_and_ends(
    start_daemon: StartDaemon, purpose: str
) -> None:
    """logind does that to people who log out (RemoveIPC=): better no server than a deaf one."""
    daemon = start_daemon(
        respawn_backoff_min_seconds=0.01, respawn_backoff_max_seconds=0.01, respawn_max_crashes=3
    )
    daemon.log.expect(
        log.WORKER_FAILED, log.WORKER_EXITED, log.WORKER_THROTTLED, log.SUPERVISOR_DEGRADED
    )
    daemon.log.expect_text("semaphore 0x[0-9a-f]+ is gone")
    client, other = daemon.join("alice"), daemon.connect()
    daemon.objects.semaphore(purpose).remove()
    other.send("JOIN bob")  # needs the one; whoever accepts needs the other
    other.close()
    client.expect_cut()
    assert daemon.wait() == 1
    assert "is gone" in str(daemon.log)


def test_a_daemon_whose_write_semaphore_was_removed_says_good_bye_to_its_clients(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    # A worker fails when it lets its clients go, which takes the semaphore: after it told them.
    daemon.log.expect(log.SUPERVISOR_DEGRADED, log.WORKER_FAILED, log.WORKER_EXITED)
    people = [daemon.join(f"p{n}", n % 2) for n in range(4)]
    semaphore_id = daemon.objects.semaphore_id("write")
    subprocess.run(["ipcrm", "-s", str(semaphore_id)], check=True)
    daemon.signal(signal.SIGCHLD)  # look around now, and not only when a heartbeat is overdue
    for person in people:
        person.expect("NOTE server is going down")
        person.expect_cut()
    assert daemon.wait() == 1
    reason = daemon.log.wait_for(log.SUPERVISOR_DEGRADED)["reason"]
    assert re.fullmatch(r"the registry's semaphore 0x[0-9a-f]+ is gone: .* removed it .*", reason)
    assert daemon.log.events(log.SUPERVISOR_STOPPING, reason=reason)
    assert len(daemon.log.events(log.WORKER_EXITED, meaning="stopped")) == 2
    assert not daemon.log.events(log.WORKER_KILLED)
