"""`prefork-chat metrics` at a real daemon, read by Prometheus's own parser."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from prefork_chat import __version__
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import Daemon, StartDaemon


def run(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "prefork_chat", "metrics", "--runtime-dir", str(directory)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def samples(directory: Path) -> dict[tuple[str, ...], float]:
    """Return each value by the metric's name and its labels' values."""
    done = run(directory)
    assert (done.returncode, done.stderr) == (0, "")
    return parse(done.stdout)


def parse(text: str) -> dict[tuple[str, ...], float]:
    families = list(text_string_to_metric_families(text))
    assert all(family.type in {"gauge", "counter"} for family in families)
    assert all(family.documentation for family in families)
    found = {
        (sample.name.removeprefix("prefork_chat_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert len(found) == sum(len(family.samples) for family in families), "none is there twice"
    return found


def test_what_people_do_is_counted(daemon: Daemon) -> None:
    before = samples(daemon.directory)
    alice, bob = daemon.join("alice", worker=0), daemon.join("bob", worker=1)
    for _ in range(3):
        alice.send("CHAT bob hi")
        alice.expect("OK CHAT bob")
    bob.read_lines(3)

    def grown(name: str) -> float:
        now = samples(daemon.directory)
        return sum(now[key] - before[key] for key in now if key[0] == name)

    def has_worked(process: str) -> bool:
        """Say whether a tick of the clock that counts CPU time, 10 ms, has met it working."""
        for client in (alice, bob):
            client.send(*(f"PING {number}" for number in range(500)))
            client.read_lines(500)
        return samples(daemon.directory)["process_cpu_seconds_total", process] > 0

    until(lambda: grown("delivered_total") == 3, "three messages to be counted")
    assert grown("lines_total") >= 5
    now = samples(daemon.directory)
    assert now["info", __version__] == 1
    assert now["sessions",] == now["names",] == 2
    assert now["max_clients",] == 10_000
    assert [now["worker_ready", number] for number in "01"] == [1, 1]
    assert sum(now["clients", worker, loop] for worker in "01" for loop in "01") == 2
    assert all(
        0 <= now["queue_bytes", worker, pair] < now["queue_limit_bytes", worker, pair]
        for worker in "01"
        for pair in ("process", "loop0", "loop1")
    )
    for process in ("worker0", "worker1", "supervisor"):
        assert now["process_resident_memory_bytes", process] > 1_000_000
        until(partial(has_worked, process), f"a tick of CPU time of {process}")
    assert all(now["worker_heartbeat_age_seconds", worker] < 10 for worker in "01")


def test_a_killed_worker_is_counted(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(workers=2)
    assert samples(daemon.directory)["worker_endings_total",] == 0
    daemon.replace_worker(1)
    now = samples(daemon.directory)
    assert now["worker_endings_total",] == 1
    assert [now["worker_generation", worker] for worker in "01"] == [1, 2]


def test_without_a_daemon_that_is_said(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"prefork-chat: no daemon runs in {tmp_path}: --runtime-dir or ")
