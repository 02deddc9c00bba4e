"""A way in and its speaker, with a clock of the test's and a door that answers as it says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from prefork_chat import log
from prefork_chat.channels.key import PROJECT
from prefork_chat.channels.sysv import SysvQueue, system_v_key
from prefork_chat.config import IngressConfig, LogConfig
from prefork_chat.log import configure
from prefork_chat.porter.ingress import PATIENCE_SECONDS, Ingress
from tests.porter.door import Door

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    fd = os.open(tmp_path, os.O_RDONLY)
    door = Door(fd)
    yield door
    door.close()
    os.close(fd)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Ingress]]:
    os.mkfifo(tmp_path / "in")
    made: list[Ingress] = []

    def make(**options: Any) -> Ingress:
        options = {"kind": "fifo", "path": str(tmp_path / "in"), "name": "cron"} | options
        made.append(Ingress(IngressConfig(**options), tmp_path))
        return made[-1]

    configure(LogConfig(file=str(tmp_path / "log")))
    yield make
    configure(LogConfig())
    for ingress in made:
        ingress.speaker.close()
        ingress.close_source()


def joined(ingress: Ingress, door: Door, now: float = 1.0) -> None:
    """Bring an ingress to where it may speak."""
    ingress.advance(now)
    door.open()
    ingress.advance(now)
    assert door.heard() == ["JOIN cron"]
    door.say("OK JOIN cron")
    ingress.advance(now)


def is_polled(ingress: Ingress) -> bool:
    return ingress.fd is not None


def write(tmp_path: Path, *lines: str) -> None:
    fd = os.open(tmp_path / "in", os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, "".join(f"{line}\n" for line in lines).encode())
    os.close(fd)


def test_it_speaks_and_counts_the_answers(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make()
    joined(ingress, door)
    write(tmp_path, "CHAT bob one", "nonsense", "CHAT bob two", "CHAT #ops three", "CHAT #ops four")
    ingress.advance(2.0)
    assert door.heard() == [
        *("CHAT bob one", "CHAT bob two", "ENTR #ops", "CHAT #ops three", "CHAT #ops four")
    ]
    door.say("OK CHAT bob", "ERR CHAT NOUSER bob is not here", "OK ENTR #ops n=1")
    door.say("OK CHAT #ops n=0", "OK CHAT #ops n=0", "CHAT eve hello", "NOTE hello")
    ingress.advance(2.0)
    counts = ingress.counts
    assert (counts.read, counts.rejected, counts.dropped) == (5, 1, 0)
    assert (counts.delivered, counts.refused) == (3, 1)
    assert ingress.speaker.counts == {"delivered": 3, "NOUSER": 1}


def test_a_room_that_cannot_be_entered_is_tried_again(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make()
    joined(ingress, door)
    write(tmp_path, "CHAT #ops one")
    ingress.advance(2.0)
    assert door.heard() == ["ENTR #ops", "CHAT #ops one"]
    door.say("ERR ENTR FULL #ops cannot be opened", "ERR CHAT NOROOM #ops is a room")
    ingress.advance(2.0)
    write(tmp_path, "CHAT #ops two")
    ingress.advance(3.0)
    assert door.heard() == ["ENTR #ops", "CHAT #ops two"]
    assert log.INGRESS_REFUSED in (tmp_path / "log").read_text()


def test_what_it_has_to_say_waits_for_a_new_connection(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make()
    joined(ingress, door)
    write(tmp_path, "CHAT #ops one")
    ingress.advance(2.0)
    door.heard()
    door.hang_up()
    ingress.advance(2.0)
    write(tmp_path, "CHAT #ops two")
    ingress.advance(2.01)
    assert ingress.speaker.fd is None
    assert ingress.fd is None, "it stays in the FIFO meanwhile"
    assert ingress.wake_at(2.01) < 3
    joined(ingress, door, 3.0)
    ingress.advance(3.0)
    assert door.heard() == ["ENTR #ops", "CHAT #ops two"]


def test_lines_that_were_not_written_are_written_to_the_next_connection(
    make: Callable[..., Ingress], door: Door
) -> None:
    ingress = make()
    joined(ingress, door)
    speaker = ingress.speaker
    said = 0
    while speaker.is_free:
        speaker.say(b"CHAT #ops %d %b" % (said, b"x" * 900), b"#ops")
        said += 1
    speaker.say(b"CHAT bob last", b"")
    assert speaker.wants_to_write
    whole = [line for line in door.heard() if len(line) > 900]
    door.hang_up()
    ingress.advance(5.0)
    joined(ingress, door, 10.0)
    ingress.advance(10.0)
    again = door.heard()
    assert again[0] == "ENTR #ops"
    assert again[-1] == "CHAT bob last"
    assert again[1].startswith(f"CHAT #ops {said - 1} ")
    assert len(whole) in {said - 1, said}


def test_a_name_that_is_taken_is_asked_for_again(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make()
    now = 1.0
    for _ in range(5):
        ingress.advance(now)
        door.open()
        ingress.advance(now)
        assert door.heard() == ["JOIN cron"]
        door.say("ERR JOIN INUSE cron is taken")
        ingress.advance(now)
        assert ingress.speaker.fd is None
        now = ingress.speaker.wake_at()
    assert 1.5 < now < 20
    assert (tmp_path / "log").read_text().count(log.INGRESS_REFUSED) == 1
    joined(ingress, door, now)


def test_nobody_behind_the_door_is_waited_for(make: Callable[..., Ingress]) -> None:
    ingress = make()
    ingress.advance(1.0)
    assert ingress.speaker.fd is None
    assert 1.0 < ingress.wake_at(1.0) < 2.0


def test_writers_do_not_wait_for_ever(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    """Nobody lets it in: first they wait, then what they say is thrown away, and counted."""
    ingress = make()
    ingress.advance(1.0)
    write(tmp_path, *(f"CHAT bob {number}" for number in range(10)))
    ingress.advance(1.0 + PATIENCE_SECONDS / 2)
    assert ingress.counts.read == 0
    assert not is_polled(ingress)
    assert ingress.wake_at(6.0) <= 1.0 + PATIENCE_SECONDS
    ingress.advance(1.1 + PATIENCE_SECONDS)
    assert (ingress.counts.read, ingress.counts.dropped) == (10, 10)
    assert is_polled(ingress), "what comes next is thrown away at once"
    assert log.INGRESS_DROPPED in (tmp_path / "log").read_text()
    door.open()
    ingress.advance(30.0)
    door.say("OK JOIN cron")
    ingress.advance(30.0)
    door.heard()
    write(tmp_path, "CHAT bob again")
    ingress.advance(30.0)
    assert door.heard() == ["CHAT bob again"]


def test_its_pace_is_kept(make: Callable[..., Ingress], door: Door, tmp_path: Path) -> None:
    ingress = make(lines_per_second=2.0, burst_lines=3)
    joined(ingress, door, 100.0)
    write(tmp_path, *(f"CHAT bob {number}" for number in range(8)))
    heard = []
    for now in (100.0, 100.4, 100.6, 101.1, 103.0):
        ingress.advance(now)
        heard.append(len(door.heard()))
    assert heard == [3, 0, 1, 1, 3]
    assert ingress.wake_at(103.0) < 104


def test_a_source_that_goes_away_is_opened_again(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    ingress = make()
    joined(ingress, door)
    assert log.INGRESS_FAILED in (tmp_path / "log").read_text()
    assert ingress.wake_at(1.0) <= 2.0
    (tmp_path / "elsewhere").rename(tmp_path / "in")
    write_end = os.open(tmp_path / "in", os.O_RDWR | os.O_NONBLOCK)
    os.write(write_end, b"CHAT bob here\n")
    ingress.advance(2.5)
    assert door.heard() == ["CHAT bob here"]
    os.close(write_end)


def test_a_queue_that_is_removed_is_looked_for_and_told_if_it_stays_away(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    (tmp_path / "key").touch()
    ingress = make(kind="sysv-queue", path=str(tmp_path / "key"))
    queue = SysvQueue.create(system_v_key(tmp_path / "key", PROJECT), 1024)
    try:
        joined(ingress, door)
        queue.put(memoryview(b"CHAT bob hi"), 1, 0)
        ingress.advance(2.0)
        assert door.heard() == ["CHAT bob hi"]
    finally:
        queue.remove()
    ingress.advance(3.0)
    assert log.INGRESS_FAILED not in (tmp_path / "log").read_text(), "a reload may be under way"
    for now in (4.1, 5.2, 6.3):
        ingress.advance(now)
    assert (tmp_path / "log").read_text().count(log.INGRESS_FAILED) == 1


def test_a_queue_that_is_not_there_is_told_and_looked_for(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make(kind="sysv-queue", path=str(tmp_path / "key"))
    joined(ingress, door)
    assert log.INGRESS_FAILED in (tmp_path / "log").read_text(), "there is no key file"
    ingress = make(kind="posix-queue", path=f"/prefork-chat-test-none-{os.getpid()}")
    ingress.advance(1.0)
    door.open()
    assert "no POSIX queue" in (tmp_path / "log").read_text()


def test_at_its_end_it_says_what_it_has_taken(
    make: Callable[..., Ingress], door: Door, tmp_path: Path
) -> None:
    ingress = make(lines_per_second=1.0, burst_lines=1)
    joined(ingress, door)
    write(tmp_path, "CHAT bob one", "CHAT bob two")
    ingress.advance(1.0)
    assert door.heard() == ["CHAT bob one"]
    ingress.finish()
    ingress.finish()
    assert door.heard() == ["CHAT bob two", "LEAV"]
    assert not ingress.speaker.is_gone
    door.say("OK LEAV")
    door.hang_up()
    for _ in range(2):
        ingress.advance(1.5)
    assert [ingress.speaker.is_gone] == [True]
    assert ingress.wake_at(1.5) == float("inf")


def test_an_end_before_it_was_let_in_is_no_farewell(make: Callable[..., Ingress]) -> None:
    ingress = make()
    ingress.advance(1.0)
    ingress.finish()
    assert ingress.speaker.is_gone
