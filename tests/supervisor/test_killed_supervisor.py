"""kill -9 of the supervisor: its workers end, and the next start finds what it left."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING

import pytest

from tests.harness.ipc import left_in
from tests.harness.waiting import PATIENCE_SECONDS
from tests.supervisor.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.supervisor.conftest import StartDaemon

WHILE_ALIVE = [
    "board",
    "semaphore accept 0",
    "semaphore write 0",
    "admin",
    "door",
    "local",
    "objects",
    "spill",
    "supervisor.pid",
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_workers_end_within_a_second_of_their_supervisor(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(server={"workers": 4})
    daemon.wait_for("supervisor.ready")
    daemon.kill()
    daemon.wait_until_nobody_survives(seconds=1.0)
    successor = start_daemon()
    successor.wait_for("supervisor.ready")
    assert successor.stop() == 0


def test_next_start_removes_what_a_killed_daemon_left(
    start_daemon: StartDaemon, runtime_dir: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "chat.sock")
    daemon = start_daemon(server={"listen": [f"unix:{path}"]})
    daemon.wait_for("supervisor.ready")
    assert left_in(runtime_dir) == WHILE_ALIVE
    daemon.kill()
    daemon.wait_until_nobody_survives(seconds=5.0)
    assert left_in(runtime_dir) == WHILE_ALIVE
    assert os.path.lexists(path)

    successor = start_daemon()
    removed = [line["kind"] for line in successor.wait_for("leftover.removed", count=3)]
    assert sorted(removed) == ["semaphore", "semaphore", "socket"]
    assert not os.path.lexists(path)
    successor.wait_for("supervisor.ready")
    assert left_in(runtime_dir) == WHILE_ALIVE
    assert successor.stop() == 0


def test_second_start_on_a_living_daemons_directory_is_refused(
    start_daemon: StartDaemon, runtime_dir: Path
) -> None:
    daemon = start_daemon("greet")
    daemon.wait_for("supervisor.ready")
    second = start_daemon()
    assert second.wait() == 3
    assert second.text == [f"prefork-chat: another daemon (pid {daemon.pid}) runs in {runtime_dir}"]
    assert left_in(runtime_dir) == WHILE_ALIVE
    listening = daemon.events("listener.opened")[0]["address"]
    host, _, port = listening.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as client:
        assert int(client.makefile().readline()) in daemon.worker_pids()
    assert daemon.stop() == 0


def test_next_start_waits_for_the_port_that_orphaned_workers_still_hold(
    start_daemon: StartDaemon,
) -> None:
    listen = [f"127.0.0.1:{free_port()}"]
    daemon = start_daemon("linger", server={"listen": listen})
    daemon.wait_for("supervisor.ready")
    daemon.kill()
    assert daemon.survivors()
    successor = start_daemon(server={"listen": listen})
    successor.wait_for("listener.delayed", address=listen[0])
    successor.wait_for("supervisor.ready")
    assert not daemon.survivors()
    assert successor.stop() == 0


def test_sigterm_ends_a_start_that_waits_for_a_port(start_daemon: StartDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        daemon = start_daemon(server={"listen": [f"127.0.0.1:{occupant.getsockname()[1]}"]})
        daemon.wait_for("listener.delayed")
        assert daemon.stop() == 0
    assert not daemon.events("worker.spawned")


def test_port_in_use_is_a_clear_error(start_daemon: StartDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        address = f"127.0.0.1:{occupant.getsockname()[1]}"
        daemon = start_daemon(server={"listen": [address]})
        assert daemon.wait() == 1
    (said,) = daemon.text
    assert said.startswith(f"prefork-chat: {address}: address in use: somebody else listens there")


def test_orphaned_workers_learn_that_their_semaphore_is_gone(start_daemon: StartDaemon) -> None:
    daemon = start_daemon("wait_for_accept_semaphore", server={"workers": 3})
    daemon.wait_for("supervisor.ready")
    daemon.kill()
    assert daemon.survivors()
    successor = start_daemon()
    successor.wait_for("supervisor.ready")
    daemon.wait_for("semaphore.gone", count=3)
    daemon.wait_until_nobody_survives(seconds=5.0)
    assert successor.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_at_every_statement_the_daemon_leaves_nothing_for_good(tmp_path: Path) -> None:
    """Start, serve and stop, killed at the first statement, the second … until it gets through.

    Strangers have the first key of each purpose, and theirs is there at the end. Two processes
    share the statements, each in a directory of its own: a start often waits for the one before.
    """
    command = [sys.executable, "-m", "tests.supervisor.killed_everywhere"]
    # Its trace function takes the place of coverage's: nothing would come of measuring it.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    shares: list[subprocess.Popen[str]] = []
    for first in (1, 2):
        directory = tmp_path / str(first)
        directory.mkdir()
        words = [*command, str(directory), str(first), "2"]
        shares.append(
            subprocess.Popen(words, cwd=ROOT, env=environ, stdout=PIPE, stderr=STDOUT, text=True)
        )
    outputs = [share.communicate(timeout=360)[0] for share in shares]
    assert [share.returncode for share in shares] == [0, 0], outputs
