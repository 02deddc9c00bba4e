"""A member who reads too slowly misses what is said in his rooms, and is told how much."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.daemon.test_rooms import enter

if TYPE_CHECKING:
    from tests.harness.client import LineClient
    from tests.harness.daemon import StartDaemon

PENDING_BYTES = 65536
TINY_BYTES = 2048
MESSAGE = "x" * 900
AT_ONCE = 50
MOST_MESSAGES = 20_000


class Speaker:
    """Alice, who numbers what she says in #dev; fred, who reads; and sam, who does not."""

    def __init__(self, alice: LineClient, fred: LineClient) -> None:
        self.alice = alice
        self.fred = fred
        self.said = 0

    def say_some(self) -> set[int]:
        """Say AT_ONCE messages; return how many each reached, as alice is told."""
        numbers = range(self.said, self.said + AT_ONCE)
        self.alice.send(*(f"CHAT #dev {n} {MESSAGE}" for n in numbers))
        self.said += AT_ONCE
        assert self.fred.read_lines(AT_ONCE) == [f"CHAT #dev alice {n} {MESSAGE}" for n in numbers]
        answers = [self.alice.expect_match(r"OK CHAT #dev n=(\d)")[1] for _ in numbers]
        return set(map(int, answers))

    def say_until_somebody_misses_some(self) -> None:
        """Say as much as it takes until sam's bound is reached."""
        while self.say_some() != {1}:
            assert self.said < MOST_MESSAGES


def hear(client: LineClient, until_line: str) -> tuple[list[int], int]:
    """Read up to a line; return the numbers that came, and how many messages were missed."""
    numbers: list[int] = []
    missed = 0
    for line in client.read_until(re.escape(until_line))[:-1]:
        if found := re.fullmatch(r"NOTE MISSED (\d+) #dev", line):
            missed += int(found[1])
        else:
            found = re.fullmatch(rf"CHAT #dev alice (\d+) {MESSAGE}", line)
            assert found, line
            assert int(found[1]) == len(numbers) + missed, "a gap, or not told where it was"
            numbers.append(int(found[1]))
    return numbers, missed


@pytest.mark.parametrize("place", [0, 1], ids=["same-worker", "other-worker"])
@pytest.mark.parametrize("is_killed", [False, True], ids=["", "killed"])
def test_a_slow_member_is_told_what_he_has_missed_where_he_has_missed_it(
    start_daemon: StartDaemon, place: int, is_killed: bool
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    alice, fred = daemon.join("alice", 0), daemon.join("fred", 1)
    sam = daemon.join("sam", place, receive_bytes=TINY_BYTES)
    enter("#dev", alice, fred, sam)
    speaker = Speaker(alice, fred)
    speaker.say_until_somebody_misses_some()
    if is_killed:
        daemon.replace_worker(place)
    assert speaker.say_some() == {1}
    sam.send("PING all.read")
    numbers, missed = hear(sam, "OK PING all.read")
    # He is told when he has caught up, should he not have been told before.
    if len(numbers) + missed < speaker.said:
        sam.expect(f"NOTE MISSED {speaker.said - len(numbers) - missed} #dev")
        missed = speaker.said - len(numbers)
    assert missed >= 2
    assert len(numbers) + missed == speaker.said
    alice.ask("CHAT #dev well again?", "OK CHAT #dev n=2")
    sam.expect("CHAT #dev alice well again?")
    sam.expect_nothing()


def test_a_member_who_misses_something_in_one_room_hears_of_it_for_that_room_only(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    alice, fred = daemon.join("alice", 0), daemon.join("fred", 1)
    sam = daemon.join("sam", 1, receive_bytes=TINY_BYTES)
    enter("#ops", alice, sam)
    enter("#dev", alice, fred, sam)
    speaker = Speaker(alice, fred)
    speaker.say_until_somebody_misses_some()
    alice.ask("CHAT #ops you there?", "OK CHAT #ops n=0")
    lines: list[str] = []
    while not any(line.startswith("NOTE MISSED 1 #ops") for line in lines):
        lines.append(sam.read_line())
    notes = [line for line in lines if line.startswith("NOTE ")]
    assert [note.rsplit(" ", 1)[1] for note in notes] in (["#dev", "#ops"], ["#ops"])


def test_a_member_who_goes_away_without_reading_is_not_waited_for(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon(limits_client_pending_bytes=PENDING_BYTES, threads=1)
    alice, fred = daemon.join("alice", 0), daemon.join("fred", 1)
    sam = daemon.join("sam", 1, receive_bytes=TINY_BYTES)
    enter("#dev", alice, fred, sam)
    speaker = Speaker(alice, fred)
    speaker.say_until_somebody_misses_some()
    sam.reset()
    assert speaker.say_some() == {1}
    speaker.fred.expect_nothing()
