"""A worker that is behind delays those who write to it; nothing is lost, nothing grows."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING

from tests.harness.processes import status

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import StartDaemon

MOST_MESSAGES = 40_000
PAYLOAD = "x" * 500
QUIET_SECONDS = 0.5


def test_who_writes_to_a_congested_worker_waits_and_nothing_is_lost(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(
        threads=1,
        limits_pair_buffer_bytes=131_072,
        limits_outbox_bytes=65_536,
        limits_client_pending_bytes=64 * 1024 * 1024,
        watchdog_seconds=60,
    )
    alice, carol = daemon.join("alice", 0), daemon.join("carol", 0)
    bob = daemon.join("bob", 1)
    rss_bytes = status(daemon.worker_pid(0)).rss_bytes
    with daemon.stopped_worker(1):
        sent = send_until_nobody_reads(alice)
        # She waits; her neighbour at the same loop does not.
        for n in range(50):
            carol.send(f"CHAT carol {n}")
            assert sorted(carol.read_lines(2)) == [f"CHAT carol {n}", "OK CHAT carol"]
        assert status(daemon.worker_pid(0)).rss_bytes - rss_bytes < 8 * 1024 * 1024
    for n in range(sent):
        bob.expect(f"CHAT alice {n} {PAYLOAD}")
    for n in range(sent):
        alice.expect(f"@{n} OK CHAT bob")
    alice.say("bob", "that was all")
    bob.expect("CHAT alice that was all")


def test_two_workers_that_flood_each_other_do_not_deadlock(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(
        threads=1,
        limits_pair_buffer_bytes=131_072,
        limits_outbox_bytes=65_536,
        limits_client_pending_bytes=64 * 1024 * 1024,
    )
    people = {f"p{n}": daemon.join(f"p{n}", n % 2) for n in range(8)}
    for name, person in people.items():
        partner = f"p{int(name[1:]) ^ 1}"
        person.send(*(f"CHAT {partner} {n} {PAYLOAD}" for n in range(1000)))
    for name, person in people.items():
        partner = f"p{int(name[1:]) ^ 1}"
        lines = person.read_lines(2000)
        assert lines.count(f"OK CHAT {partner}") == 1000
        assert [ln for ln in lines if ln.startswith("CHAT ")] == [
            f"CHAT {partner} {n} {PAYLOAD}" for n in range(1000)
        ]


def test_a_loop_that_hangs_holds_its_router_up_and_nothing_is_lost(
    start_daemon: StartDaemon,
) -> None:
    """Its thread-level pair is full first, then the router waits, then the parent-level pair."""
    daemon = start_daemon(
        threads=1,
        turn_lock=False,  # else a loop that hangs in its turn stops the router right away
        limits_pair_buffer_bytes=131_072,
        limits_outbox_bytes=65_536,
        limits_client_pending_bytes=64 * 1024 * 1024,
        watchdog_seconds=60,
    )
    alice, bob = daemon.join("alice", 0), daemon.join("bob", 1)
    newcomer = daemon.connect(1)
    with daemon.objects.held("write"):
        newcomer.send("JOIN newcomer")  # waits for the semaphore, and bob's loop with it
        sent = send_until_nobody_reads(alice)
    newcomer.expect("OK JOIN newcomer")
    for n in range(sent):
        bob.expect(f"CHAT alice {n} {PAYLOAD}")
    for n in range(sent):
        alice.expect(f"@{n} OK CHAT bob")


def send_until_nobody_reads(alice: LineClient) -> int:
    """Send numbered messages to bob until the server takes no more; return how many."""
    data = "".join(f"@{n} CHAT bob {n} {PAYLOAD}\n" for n in range(MOST_MESSAGES)).encode()
    taken = 0
    while select.select([], [alice.socket], [], QUIET_SECONDS)[1]:
        taken += alice.send_while_taken(data[taken : taken + 65536])
        assert taken < len(data), "nothing ever holds the sender back"
    sent = data.count(b"\n", 0, taken)
    if not data.endswith(b"\n", 0, taken):
        end = data.index(b"\n", taken) + 1
        threading.Thread(target=alice.send_bytes, args=(data[taken:end],)).start()
        sent += 1
    return sent
