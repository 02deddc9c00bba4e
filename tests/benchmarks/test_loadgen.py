"""loadgen against servers with a known fault: it must find that one, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import processes
from benchmarks.load import Load, LoadError, Outcome, Progress, WindowClosed, WindowOpened, run
from tests.benchmarks.faulty_server import DELAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).parent / "faulty_server.py"


@contextmanager
def server(fault: str) -> Iterator[str]:
    command = [sys.executable, str(SERVER), fault]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


def outcome(binary: Path, load: Load, address: str) -> Outcome:
    *_, last = run(binary, load, address, 1, None)
    assert isinstance(last, Outcome)
    return last


def short(**changes: object) -> Load:
    settings: dict[str, object] = {
        "clients": 6,
        "in_flight": 4,
        "warm_up_seconds": 0.05,
        "seconds": 0.2,
    }
    return Load(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("receipts", [False, True])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_sound_server_gives_a_sound_run(loadgen: Path, receipts: bool, processes: int) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(receipts=receipts, processes=processes), address)
    assert found.trouble() == {}
    assert found.is_sound
    assert found.joined == 6
    assert found.sent == found.delivered > found.window_delivered > 0
    assert found.receipts == (found.sent if receipts else 0)
    assert found.delivery.count > 0
    assert found.receipt.count == (found.delivery.count if receipts else 0)


@pytest.mark.parametrize(
    ("fault", "receipts", "trouble"),
    [
        ("lose", True, "lost"),
        ("lose", False, "lost"),
        ("lose-receipt", True, "lost_receipts"),
        ("double", True, "doubled"),
        ("double", False, "doubled"),
        ("change", True, "corrupted"),
        ("misdeliver", False, "corrupted"),
        ("refuse-and-deliver", True, "errors"),
        ("disconnect", True, "disconnects"),
    ],
)
def test_a_fault_is_counted_under_its_name(
    loadgen: Path, fault: str, receipts: bool, trouble: str
) -> None:
    with server(fault) as address:
        found = outcome(loadgen, short(receipts=receipts, drain_seconds=0.3), address)
    assert not found.is_sound
    assert found.trouble().get(trouble, 0) > 0
    assert found.complaint or trouble.startswith("lost")


def test_a_message_that_overtakes_another_is_counted_as_reordered(loadgen: Path) -> None:
    with server("hold") as address:
        found = outcome(loadgen, short(clients=2, in_flight=8, drain_seconds=0.3), address)
    assert set(found.trouble()) <= {"reordered", "lost"}  # the last one held has no successor
    assert found.reordered > 0


def test_nothing_but_the_fault_is_found(loadgen: Path) -> None:
    with server("double") as address:
        found = outcome(loadgen, short(), address)
    assert set(found.trouble()) == {"doubled"}
    assert found.delivered == found.sent


@pytest.mark.parametrize("receipts", [False, True])
@pytest.mark.parametrize("in_flight", [1, 8])
def test_a_refused_message_is_not_awaited(loadgen: Path, receipts: bool, in_flight: int) -> None:
    load = short(receipts=receipts, in_flight=in_flight, clients=3)
    with server("refuse") as address:
        found = outcome(loadgen, load, address)
    assert set(found.trouble()) == {"refused"}
    assert found.delivered + found.refused == found.sent
    assert found.complaint.startswith("ERR CHAT BUSY ")


def test_a_refusal_that_comes_before_older_messages_do_is_not_taken_for_theirs(
    loadgen: Path,
) -> None:
    with server("refuse-ahead") as address:
        found = outcome(loadgen, short(receipts=True, in_flight=8, clients=3), address)
    assert set(found.trouble()) == {"refused"}
    assert found.delivered + found.refused == found.sent


def test_leav_without_an_answer_is_counted(loadgen: Path) -> None:
    load = short(mode="join", lanes=2, drain_seconds=0.3)
    with server("deaf") as address:
        found = outcome(loadgen, load, address)
    assert found.trouble()["unfinished"] == 2


def test_a_server_that_is_full_ends_the_run_with_its_words(loadgen: Path) -> None:
    with server("full") as address, pytest.raises(LoadError, match="ERR HELO FULL no room"):
        outcome(loadgen, short(), address)


def test_nobody_listening_ends_the_run(loadgen: Path, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="connect: No such file"):
        outcome(loadgen, short(), f"unix:{tmp_path}/nobody")


def test_a_delay_is_measured(loadgen: Path) -> None:
    with server("delay") as address:
        found = outcome(loadgen, short(in_flight=1, receipts=True), address)
    assert found.is_sound
    for times in (found.delivery, found.receipt):
        assert DELAY_SECONDS * 1e6 <= times.p50_us < times.p99_us * 1.001
        assert times.p99_us <= times.max_us


def test_a_fixed_rate_is_kept_and_latency_counts_from_the_due_time(loadgen: Path) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(rate=500, seconds=0.4), address)
    assert found.is_sound
    assert found.delivery.count == found.lateness.count == pytest.approx(200, abs=1)
    assert found.delivery.mean_us > found.lateness.mean_us


def test_joins_are_counted_from_connect_to_closed(loadgen: Path) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(mode="join", lanes=4), address)
    assert found.is_sound
    assert found.cycles == found.joined > found.window_cycles > 0


def test_idle_clients_stay_until_the_driver_has_looked(loadgen: Path) -> None:
    with server("none") as address:
        events = list(run(loadgen, short(mode="idle"), address, 1, None))
    opened, closed, last = (event for event in events if not isinstance(event, Progress))
    assert isinstance(opened, WindowOpened)
    assert isinstance(closed, WindowClosed)
    assert isinstance(last, Outcome)
    assert last.is_sound
    assert (last.joined, last.sent) == (6, 0)


def test_a_run_that_is_broken_off_leaves_no_process(loadgen: Path) -> None:
    with server("none") as address:
        events = run(loadgen, short(seconds=60, processes=2), address, 1, None)
        while not isinstance(next(events), WindowOpened):
            pass
        generators = set(processes.tree(os.getpid()))
        events.close()
        left = generators & set(processes.tree(os.getpid()))
    assert len(generators) - len(left) == 3  # the parent and two processes


@pytest.mark.parametrize("payload_bytes", [32, 900])
def test_payloads_of_any_size_arrive_whole(loadgen: Path, payload_bytes: int) -> None:
    with server("none") as address:
        found = outcome(loadgen, short(payload_bytes=payload_bytes), address)
    assert found.is_sound
    assert found.delivered > 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--connect", "localhost:1"], "numeric address"),
        (["--connect", "127.0.0.1:99999"], "from 1 to 65535"),
        (["--connect", "127.0.0.1:1", "--payload", "31"], "--payload 31: expected a number from"),
        (["--connect", "127.0.0.1:1", "--clients", "3", "--processes", "2"], "two clients"),
        ([], "address is missing"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(
    loadgen: Path, words: list[str], reason: str
) -> None:
    done = subprocess.run([loadgen, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
