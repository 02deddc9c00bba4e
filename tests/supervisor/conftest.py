"""Daemons in runtime directories of their own, and the check that nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.harness.ipc import DaemonObjects, left_in
from tests.supervisor.daemon import Daemon
from tests.supervisor.people import Room

StartDaemon = Callable[..., Daemon]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def runtime_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def start_daemon(runtime_dir: Path) -> Iterator[StartDaemon]:
    """Start daemons; when the test ends, none may live and nothing of them be left.

    Keywords other than Daemon's are options of the configuration: `server={"workers": 3}`.
    """
    daemons: list[Daemon] = []
    directories: set[Path] = set()

    def start(
        worker: str = "obey",
        *,
        prefix: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        pass_fds: tuple[int, ...] = (),
        directory: Path = runtime_dir,
        root: Path = ROOT,
        **tables: Mapping[str, object],
    ) -> Daemon:
        directories.add(directory)
        settings = {name: dict(table) for name, table in tables.items()}
        settings.setdefault("log", {"format": "json"})
        server = {"runtime_dir": str(directory), "listen": ["127.0.0.1:0"], "max_clients": 100}
        settings["server"] = {**server, **settings.get("server", {})}
        path = directory.with_name(f"config-{len(daemons)}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        daemon = Daemon(
            worker, settings, path, prefix=prefix, environ=environ, pass_fds=pass_fds, root=root
        )
        daemons.append(daemon)
        return daemon

    yield start
    survivors = [pid for daemon in daemons for pid in daemon.destroy()]
    left = {str(directory): left_in(directory) for directory in directories}
    if any(left.values()):
        for directory in directories:
            DaemonObjects(directory).remove()
    assert not survivors, "\n".join(daemon.tell() for daemon in daemons)
    assert not any(left.values()), left


@pytest.fixture
def room(start_daemon: StartDaemon) -> Iterator[Room]:
    room = Room(start_daemon)
    yield room
    room.close()
