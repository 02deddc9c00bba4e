"""An answer that comes late reaches nobody but the one who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import StartDaemon


def test_a_receipt_for_a_slot_that_is_somebody_else_s_by_now_is_dropped(
    start_daemon: StartDaemon,
) -> None:
    """Slots are used again, and the last one that was freed first: here alice's, by mallory."""
    daemon = start_daemon(threads=1, watchdog_seconds=60)
    bob = daemon.join("bob", 1)
    dave = daemon.join("dave", 0)
    mallory = daemon.connect(0)
    alice = daemon.join("alice", 0)
    with daemon.stopped_worker(1):
        alice.ask("@secret CHAT bob for your eyes only")
        alice.expect_nothing()
        alice.reset()
        until(lambda: names(dave) == {"bob", "dave"}, "alice's name to be free")
        mallory.join("mallory")
        dave.send("CHAT bob after alice's")
    bob.expect("CHAT alice for your eyes only", "CHAT dave after alice's")
    dave.expect("OK CHAT bob")  # so the answer to alice, on the same way, has come too
    mallory.expect_nothing()
    mallory.say("bob", "hi")


def names(client: LineClient) -> set[str]:
    client.send("WHOS")
    return {line.split()[2] for line in client.read_until(r"OK WHOS n=\d+")[:-1]}
