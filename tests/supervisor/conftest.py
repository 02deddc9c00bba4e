"""Daemons in runtime directories of their own, and the check that nothing of them is left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from prefork_chat.registry.ipc import remove_leftover_memory, remove_leftover_semaphore
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory
from tests.supervisor.daemon import Daemon

StartDaemon = Callable[..., Daemon]
ATTEMPTS = 16
ROOT = Path(__file__).parents[2]


def objects_of(directory: Path) -> list[str]:
    """List every object that exists under a key or name that a daemon in `directory` may use."""
    if not directory.exists():
        return []
    fd = os.open(directory, os.O_RDONLY)
    try:
        ledger = Ledger(RuntimeDirectory(directory, fd, -1))
        keys = {int(line.split()[0]) for line in _kernel_semaphores()}
        found: list[str] = []
        for attempt in range(ATTEMPTS):
            found += [
                f"semaphore {purpose} {attempt}"
                for purpose in ("accept", "write")
                if ledger.semaphore_key(purpose, attempt) in keys
            ]
            if os.path.lexists(f"/dev/shm{ledger.memory_name('registry', attempt)}"):
                found.append(f"memory registry {attempt}")
        return found + sorted(os.listdir(directory))
    finally:
        os.close(fd)


def tidy(directory: Path) -> None:
    """Remove what daemons in `directory` left, listed or not: a failed test leaves nothing."""
    fd = os.open(directory, os.O_RDONLY)
    ledger = Ledger(RuntimeDirectory(directory, fd, -1))
    for attempt in range(ATTEMPTS):
        for purpose in ("accept", "write"):
            remove_leftover_semaphore(ledger.semaphore_key(purpose, attempt))
        remove_leftover_memory(ledger.memory_name("registry", attempt))
    os.close(fd)


def _kernel_semaphores() -> list[str]:
    return Path("/proc/sysvipc/sem").read_text(encoding="ascii").splitlines()[1:]


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
        **tables: Mapping[str, object],
    ) -> Daemon:
        directories.add(directory)
        settings = {name: dict(table) for name, table in tables.items()}
        settings.setdefault("log", {"format": "json"})
        server = {"runtime_dir": str(directory), "listen": ["127.0.0.1:0"], "max_clients": 100}
        settings["server"] = {**server, **settings.get("server", {})}
        path = directory.with_name(f"config-{len(daemons)}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        daemon = Daemon(worker, settings, path, prefix=prefix, environ=environ, pass_fds=pass_fds)
        daemons.append(daemon)
        return daemon

    yield start
    survivors = [pid for daemon in daemons for pid in daemon.destroy()]
    left = {str(directory): objects_of(directory) for directory in directories}
    if any(left.values()):
        for directory in directories:
            tidy(directory)
    assert not survivors, "\n".join(daemon.tell() for daemon in daemons)
    assert not any(left.values()), left
