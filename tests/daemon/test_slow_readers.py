"""Who does not read costs himself something, and nobody else."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import status

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import Daemon, StartDaemon

PENDING_BYTES = 65536
MESSAGE = "x" * 900
MOST_MESSAGES = 20_000
"""18 MB: more than the kernel's buffers and our own bound can hold together."""

TINY_BYTES = 2048

FLOOD = 3000


@pytest.fixture(params=[(0, 1), (0, 0)], ids=["other-worker", "same-worker"])
def places(request: pytest.FixtureRequest) -> tuple[int, int]:
    """The workers of the sender and of the slow reader."""
    here, there = request.param
    return here, there


class Sender:
    """Alice, who sends numbered, tagged messages to bob, and keeps account of the answers.

    Somebody else on bob's loop tells when all answers that bob's loop has for us have come.
    """

    def __init__(self, daemon: Daemon, places: tuple[int, int]) -> None:
        """Join alice at the first of `places`; bob is to be at the second."""
        self.client = daemon.join("alice", places[0])
        self._neighbour = daemon.join("neighbour", places[1])
        self.sent = 0
        self.arrived: list[int] = []
        self.busy: list[int] = []

    def send(self, count: int) -> None:
        """Send so many messages, and take the answers that there are."""
        numbers = range(self.sent, self.sent + count)
        self.client.send(*(f"@{n} CHAT bob {n} {MESSAGE}" for n in numbers))
        self.sent += count
        # Twice: answers to lines that were delivered together need not come in their order.
        for _ in range(2):
            self.client.send("CHAT neighbour has bob answered?")
            self._neighbour.read_line()
            for answer in self.client.read_until("OK CHAT neighbour")[:-1]:
                self.note(answer)

    def note(self, answer: str) -> None:
        """Enter one answer."""
        tag, _, outcome = answer.partition(" ")
        number = int(tag.removeprefix("@"))
        if outcome == "OK CHAT bob":
            self.arrived.append(number)
        else:
            assert outcome.startswith("ERR CHAT BUSY bob "), answer
            self.busy.append(number)

    @property
    def open_count(self) -> int:
        """How many messages have no answer yet."""
        return self.sent - len(self.arrived) - len(self.busy)

    def fill(self) -> None:
        """Send until the receiver is busy."""
        while not self.busy:
            assert self.sent < MOST_MESSAGES, "a reader who never reads is never BUSY"
            self.send(100)


def test_messages_to_a_slow_reader_are_refused_and_the_accepted_ones_arrive_when_he_reads(
    start_daemon: StartDaemon, places: tuple[int, int]
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    sender = Sender(daemon, places)
    bob = daemon.join("bob", places[1], receive_bytes=TINY_BYTES)
    sender.fill()
    held_back = sender.open_count
    # A receipt says that the kernel has the message: for what waits in the server there is none.
    assert held_back * len(MESSAGE) >= PENDING_BYTES // 2
    assert held_back * len(MESSAGE) <= PENDING_BYTES + 128 * 1024
    expected = sender.sent - len(sender.busy)
    came = [bob.read_line() for _ in range(expected)]
    for _ in range(held_back):
        sender.note(sender.client.read_line())
    assert sender.open_count == 0
    assert came == [f"CHAT alice {n} {MESSAGE}" for n in sorted(sender.arrived)]
    assert sender.arrived == sorted(sender.arrived)
    bob.expect_nothing()
    sender.client.ask("CHAT bob well again", "OK CHAT bob")
    bob.expect("CHAT alice well again")
    assert daemon.stat()["refused"] == len(sender.busy)


def test_others_do_not_notice_a_slow_reader(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    sender = Sender(daemon, (0, 0))
    daemon.join("bob", 0, receive_bytes=TINY_BYTES)
    carol, dave = daemon.join("carol", 0), daemon.join("dave", 1)
    sender.fill()
    latencies = []
    for n in range(200):
        sender.send(5)
        start = time.monotonic()
        carol.send(f"CHAT dave {n}")
        dave.expect(f"CHAT carol {n}")
        carol.expect("OK CHAT dave")
        latencies.append(time.monotonic() - start)
    assert sorted(latencies)[100] < 0.1
    # The slow reader's own sender is not punished either: he gets his answer and talks to others.
    sender.client.say("dave", "bob does not listen")
    dave.expect("CHAT alice bob does not listen")


@pytest.mark.parametrize("hang_up", ["reset", "close"])
def test_what_a_slow_reader_never_got_is_answered_when_he_is_gone(
    start_daemon: StartDaemon, hang_up: str
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    sender = Sender(daemon, (0, 1))
    bob = daemon.join("bob", 1, receive_bytes=TINY_BYTES)
    sender.fill()
    held_back = sender.open_count
    assert held_back
    getattr(bob, hang_up)()
    answers = [answer.split()[1:5] for answer in sender.client.read_lines(held_back)]
    unsure = answers.count(["ERR", "CHAT", "UNSURE", "bob"])
    assert answers[:unsure] == [["ERR", "CHAT", "UNSURE", "bob"]] * unsure
    assert answers[unsure:] == [["ERR", "CHAT", "NOUSER", "bob"]] * (held_back - unsure)
    sender.client.expect_nothing()
    daemon.join("bob", 1)


def test_who_does_not_read_his_own_answers_is_not_read_and_costs_little(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    greedy = daemon.connect(0, receive_bytes=TINY_BYTES)
    neighbour = daemon.connect(0)
    rss_bytes = status(daemon.worker_pid(0)).rss_bytes
    asked = ask_until_nobody_reads(greedy)
    for _ in range(20):
        neighbour.expect_nothing()
    assert not select.select([], [greedy.socket], [], 0)[1], "the server reads on"
    assert status(daemon.worker_pid(0)).rss_bytes - rss_bytes < 8 * 1024 * 1024
    # When he reads at last, all is there.
    for _ in range(asked):
        assert greedy.read_until("OK HELP")
    greedy.close()


def test_a_flood_of_questions_with_long_answers_costs_little(start_daemon: StartDaemon) -> None:
    """A line of five bytes asks for a list of all names: thousands of them came in one read."""
    daemon = start_daemon(threads=1, watchdog_seconds=5)
    for n in range(200):
        daemon.join(f"a-rather-long-name-{n}")
    greedy, neighbour = daemon.connect(0), daemon.connect(0)
    rss_bytes = status(daemon.worker_pid(0)).rss_bytes
    greedy.send(*["WHOS"] * FLOOD, "PING done")
    start = time.monotonic()
    neighbour.expect_nothing()
    assert time.monotonic() - start < 2.0
    lines = greedy.read_until("OK PING done")
    whole, refused = (
        lines.count("OK WHOS n=200"),
        sum(ln.startswith("ERR WHOS BUSY") for ln in lines),
    )
    assert whole >= 1
    assert whole + refused == FLOOD
    assert len(lines) == 201 * whole + refused + 1
    assert status(daemon.worker_pid(0)).rss_bytes - rss_bytes < 16 * 1024 * 1024


QUESTION = b"HELP".ljust(999) + b"\n"
"""Long, so that the kernel, which takes megabytes, does not take a million."""

QUIET_SECONDS = 0.5


def ask_until_nobody_reads(client: LineClient) -> int:
    """Ask and ask without reading; return how many questions the kernel took."""
    taken_bytes = 0
    while select.select([], [client.socket], [], QUIET_SECONDS)[1]:
        questions = QUESTION * 100
        taken_bytes += client.send_while_taken(questions[taken_bytes % len(QUESTION) :])
        assert taken_bytes < 64 * 1024 * 1024, "the server reads without end"
    return taken_bytes // len(QUESTION)
