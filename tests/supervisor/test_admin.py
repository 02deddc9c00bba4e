"""The admin socket and `prefork-chat ctl`, at a real supervisor whose workers have clients."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from prefork_chat import control
from tests.harness.waiting import PATIENCE_SECONDS
from tests.supervisor.conftest import ROOT
from tests.supervisor.echo import UNLUCKY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.supervisor.conftest import StartDaemon
    from tests.supervisor.daemon import Daemon


@pytest.fixture
def daemon(start_daemon: StartDaemon) -> Daemon:
    daemon = start_daemon("echo", server={"workers": 2}, respawn={"backoff_min_seconds": 0.01})
    daemon.wait_for("supervisor.ready")
    return daemon


@pytest.fixture
def connected() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ctl(directory: Path, *order: str, code: int = 0) -> str:
    """Run `ctl`; return what it printed, on stderr if it is to fail."""
    command = [sys.executable, "-m", "prefork_chat", "ctl", "--runtime-dir", str(directory)]
    done = subprocess.run(
        [*command, *order],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == code, done
    assert (done.stderr if code == 0 else done.stdout) == ""
    return done.stdout if code == 0 else done.stderr


def ctl_json(directory: Path, *order: str) -> Any:
    return json.loads(ctl(directory, "--json", *order))


def ask_raw(directory: Path, data: bytes) -> bytes:
    """Send bytes to the admin socket; return all that comes back."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(str(directory / control.SOCKET_NAME))
        peer.sendall(data)
        answer = b""
        while part := peer.recv(65536):
            answer += part
        return answer


def test_workers_are_listed_with_what_they_are_about(daemon: Daemon, runtime_dir: Path) -> None:
    lines = ctl(runtime_dir, "workers").splitlines()
    assert lines[0].split()[:5] == ["WORKER", "GENERATION", "PID", "STATE", "CLIENTS"]
    assert len({line.index(" ready") for line in lines[1:3]}) == 1, "columns are aligned"
    assert lines[3:] == ["2 workers"]
    rows = ctl_json(runtime_dir, "workers")
    assert [(row["p_id"], row["generation"], row["state"]) for row in rows] == [
        (0, 1, "ready"),
        (1, 1, "ready"),
    ]
    assert [row["pid"] for row in rows] == daemon.worker_pids()
    assert all(0 < row["up_seconds"] < PATIENCE_SECONDS for row in rows)
    assert daemon.stop() == 0


def test_clients_are_listed_with_where_they_are_and_come_from(
    daemon: Daemon, runtime_dir: Path, connected: ExitStack
) -> None:
    assert ctl_json(runtime_dir, "clients") == []
    assert ctl(runtime_dir, "clients") == "0 clients\n"
    addresses = set()
    for _ in range(3):
        client = connected.enter_context(daemon.connect())
        client.sendall(b"hello\n")
        assert client.recv(100)
        addresses.add("{}:{}".format(*client.getsockname()))
    rows = ctl_json(runtime_dir, "clients")
    assert {row["address"] for row in rows} == addresses
    assert {row["slot"] for row in rows} == {0, 1, 2}
    assert {row["p_id"] for row in rows} <= {0, 1}
    assert ctl(runtime_dir, "clients").splitlines()[-1] == "3 clients"
    assert daemon.stop() == 0


def test_recycle_returns_when_the_successor_serves(daemon: Daemon, runtime_dir: Path) -> None:
    said = ctl(runtime_dir, "recycle", "1")
    assert said.startswith("recycle: 1 worker replaced in ")
    assert daemon.events("worker.ready", p_id=1, generation=2)
    assert not daemon.events("worker.told", p_id=0)
    refused = ctl(runtime_dir, "recycle", "7", code=1)
    assert refused == "prefork-chat: there is no worker 7\n"
    assert daemon.stop() == 0


def test_reload_returns_when_all_workers_are_new(daemon: Daemon, runtime_dir: Path) -> None:
    daemon.configure(server={"threads": 7})
    said = ctl(runtime_dir, "reload")
    assert said.startswith("reload: 2 workers replaced in ")
    assert said.endswith("; these keys need a restart: server.threads\n")
    assert len(daemon.events("worker.ready", generation=2)) == 2
    assert daemon.stop() == 0


def test_reload_of_a_wrong_configuration_says_what_is_wrong(
    daemon: Daemon, runtime_dir: Path
) -> None:
    daemon.configure(server={"workers": "many"})
    assert "server.workers" in ctl(runtime_dir, "reload", code=1)
    assert daemon.stop() == 0


def test_reload_says_that_the_new_workers_crash(daemon: Daemon, runtime_dir: Path) -> None:
    daemon.configure(limits={"burst_lines": UNLUCKY})
    said = ctl(runtime_dir, "reload", code=1)
    assert said == "prefork-chat: reload: the new worker 0 has crashed 3 times in a row\n"
    assert daemon.stop() == 0


def test_drain_says_how_many_are_left(
    daemon: Daemon, runtime_dir: Path, connected: ExitStack
) -> None:
    client = connected.enter_context(daemon.connect())
    client.sendall(b"hello\n")
    assert client.recv(100)
    assert ctl(runtime_dir, "drain") == "draining: 1 client left\n"
    assert "draining" in ctl(runtime_dir, "reload", code=1)
    client.close()
    assert daemon.wait() == 0


def test_stop_returns_when_the_daemon_has_ended(daemon: Daemon, runtime_dir: Path) -> None:
    assert ctl(runtime_dir, "stop") == "the daemon has ended\n"
    assert not daemon.survivors()
    assert daemon.wait() == 0
    assert daemon.events("supervisor.stopping", reason="ctl stop")


def test_where_no_daemon_runs_the_exit_code_is_3(runtime_dir: Path) -> None:
    said = (
        f"prefork-chat: no daemon runs in {runtime_dir}: "
        "--runtime-dir or --config says where yours does\n"
    )
    assert ctl(runtime_dir, "workers", code=3) == said
    runtime_dir.mkdir(mode=0o700)
    assert ctl(runtime_dir, "workers", code=3) == said
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime_dir / control.SOCKET_NAME))
    assert ctl(runtime_dir, "workers", code=3) == said


def test_the_daemon_is_found_by_its_configuration_file(
    daemon: Daemon, runtime_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "chat.toml"
    path.write_text(f'[server]\nruntime_dir = "{runtime_dir}"\n')
    command = [sys.executable, "-m", "prefork_chat", "ctl", "--config", str(path), "workers"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("2 workers\n")
    assert daemon.stop() == 0


def test_the_socket_is_for_its_owner_alone(daemon: Daemon, runtime_dir: Path) -> None:
    status = (runtime_dir / control.SOCKET_NAME).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert daemon.stop() == 0
    assert not (runtime_dir / control.SOCKET_NAME).exists()


def test_another_user_is_not_heard(
    daemon: Daemon, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the mode ever be wrong, or the directory's."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    monkeypatch.chdir(runtime_dir)
    runtime_dir.chmod(0o755)
    (runtime_dir / control.SOCKET_NAME).chmod(0o666)
    with socket.socket(socket.AF_UNIX) as peer:
        os.seteuid(65534)
        try:
            peer.connect(control.SOCKET_NAME)
        finally:
            os.seteuid(0)
        peer.settimeout(PATIENCE_SECONDS)
        assert peer.recv(100) == b""
    daemon.wait_for("admin.refused", peer_uid=65534)
    assert daemon.stop() == 0


def test_what_is_not_understood_is_refused(daemon: Daemon, runtime_dir: Path) -> None:
    for line in (b"workers\n", b'{"kind": "reboot"}\n', b"{}\n", b"\xff\n", b"\n"):
        answer = control.decode_answer(ask_raw(runtime_dir, line))
        assert isinstance(answer, control.Failed), line
        assert answer.text.startswith("not understood: ")
    assert ask_raw(runtime_dir, b"x" * control.REQUEST_BYTES) == b""
    assert daemon.stop() == 0


def test_who_says_nothing_keeps_nobody_waiting(
    daemon: Daemon, runtime_dir: Path, connected: ExitStack
) -> None:
    silent = []
    for _ in range(40):
        peer = connected.enter_context(socket.socket(socket.AF_UNIX))
        peer.connect(str(runtime_dir / control.SOCKET_NAME))
        peer.settimeout(PATIENCE_SECONDS)
        silent.append(peer)
        if len(silent) == 1:
            peer.sendall(b'{"kind": "wor')
    assert len(ctl_json(runtime_dir, "workers")) == 2
    assert silent[0].recv(100) == b"", "the oldest had to go"
    silent[-1].sendall(control.encode(control.Workers()))
    assert silent[-1].recv(100_000).startswith(b'{"kind":"worker"')
    assert daemon.stop() == 0


def test_who_does_not_read_a_long_answer_keeps_nobody_waiting(
    start_daemon: StartDaemon, runtime_dir: Path, connected: ExitStack
) -> None:
    daemon = start_daemon("fill_registry", server={"workers": 1, "max_clients": 20_000})
    daemon.wait_for("supervisor.ready")
    peer = connected.enter_context(socket.socket(socket.AF_UNIX))
    peer.settimeout(PATIENCE_SECONDS)
    peer.connect(str(runtime_dir / control.SOCKET_NAME))
    peer.sendall(control.encode(control.Clients()))
    begun = time.monotonic()
    assert len(ctl_json(runtime_dir, "workers")) == 1
    assert time.monotonic() - begun < PATIENCE_SECONDS / 2
    rows = ctl_json(runtime_dir, "clients")
    assert [row["slot"] for row in rows] == list(range(20_000))
    with peer.makefile("rb") as lines:
        answers = [control.decode_answer(line) for line in lines]
    assert len(answers) == 20_001
    assert answers[-1] == control.Done("20000 clients")
    assert daemon.stop() == 0
