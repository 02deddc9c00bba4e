"""The supervisor as PID 1 of a container: every orphan there becomes its child."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import children_of
from tests.harness.waiting import until

if TYPE_CHECKING:
    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture(autouse=True)
def skip_without_unshare() -> None:
    probe = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"unshare is not permitted: {probe.stderr.decode().strip()}")


def supervisor_pid(daemon: Daemon) -> int:
    """Return the pid that PID 1 of the namespace has here: the only child of `unshare`."""
    (pid,) = daemon.worker_pids()
    return pid


def has_its_workers_only(pid: int) -> bool:
    children = children_of(pid)
    return len(children) <= 2 and not any(child.state == "Z" for child in children)


def test_orphan_is_reaped_and_not_taken_for_a_worker(start_daemon: StartDaemon) -> None:
    """gunicorn #3220: waitpid(-1) took the orphan's exit status 3 for a worker's."""
    daemon = start_daemon("orphan_a_process", prefix=UNSHARE)
    daemon.wait_for("orphan.adopted")
    daemon.wait_for("supervisor.ready")
    pid = supervisor_pid(daemon)
    until(lambda: has_its_workers_only(pid), "the orphan to be reaped")
    assert not daemon.events("worker.exited")
    os.kill(pid, signal.SIGTERM)
    assert daemon.wait() == 0
    assert {line["how"] for line in daemon.events("worker.exited")} == {"exit 0"}


def test_workers_are_respawned_by_pid_one(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(prefix=UNSHARE)
    daemon.wait_for("supervisor.ready")
    pid = supervisor_pid(daemon)
    victim = children_of(pid)[0].pid
    os.kill(victim, signal.SIGKILL)
    daemon.wait_for("worker.ready", generation=2)
    os.kill(pid, signal.SIGINT)
    assert daemon.wait() == 0
