"""How a daemon is started for a benchmark, and stopped: by its command, as its users do.

Each daemon has a runtime directory, a log file and a configuration of its own in a temporary
folder, and a session of its own, so that nothing of it outlives the benchmark. Called from the
benchmark's only thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.build import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_MAX_CLIENTS: Final = 10_000  # the daemon's server.max_clients
START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 20.0  # beyond the daemon's own stop_seconds


class DaemonError(Exception):
    """The daemon did not start or did not stop; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server to measure: where it listens, and the root of its process tree, if known."""

    address: str
    pid: int | None
    log: Path | None = None

    def complaints(self) -> list[str]:
        """Return the log's lines that an operator would have to act on: warnings and errors."""
        if self.log is None:
            return []
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if _level(line) in {"warning", "error", "critical"}]


def roomy(options: Mapping[str, str], clients: int) -> dict[str, str]:
    """Return `options` for a daemon that is not full before so many clients are joined."""
    needed = {"server.max_clients": str(clients)} if clients > DEFAULT_MAX_CLIENTS else {}
    return needed | dict(options)


@contextlib.contextmanager
def serve(
    options: Mapping[str, str], transport: str, cpus: frozenset[int] | None
) -> Iterator[Server]:
    """Run a daemon for the body of the `with` statement.

    `options` are configuration keys (`server.workers`) and their values in TOML; `transport` is tcp
    or unix; `cpus` are the CPUs that it may use, None for all. Raises DaemonError if it does not
    start within 20 s or does not stop in order.
    """
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as name:
        folder = Path(name)
        listen = "127.0.0.1:0" if transport == "tcp" else f"unix:{folder}/chat"
        _write_config(folder, {"server.listen": json.dumps([listen]), **options})
        with _notify_socket(folder) as news:
            process = _spawn(folder, cpus)
            try:
                _await_ready(process, news, folder)
                address = _address(folder) if transport == "tcp" else listen
                yield Server(address, process.pid, folder / "log")
                _stop(process, folder)
            finally:
                _kill(process)


@contextlib.contextmanager
def pinned(cpus: frozenset[int] | None) -> Iterator[None]:
    """Let processes that are started in the body use only these CPUs; None for no change."""
    before = os.sched_getaffinity(0)
    if cpus is not None:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _level(line: str) -> str:
    try:
        event = json.loads(line)
    except ValueError:
        return "error" if line.startswith("Traceback") else ""
    return str(event.get("level", "")) if isinstance(event, dict) else ""


def _write_config(folder: Path, options: Mapping[str, str]) -> None:
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    keys = {
        "server.runtime_dir": json.dumps(str(runtime)),
        "server.state_dir": json.dumps(str(folder / "state")),
        "log.format": '"json"',
        **options,
    }
    text = "".join(f"{key} = {value}\n" for key, value in keys.items())
    (folder / "config.toml").write_text(text, encoding="utf-8")


def _notify_socket(folder: Path) -> socket.socket:
    news = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    news.bind(str(folder / "notify"))
    return news


def _spawn(folder: Path, cpus: frozenset[int] | None) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LISTEN_")}
    environment["NOTIFY_SOCKET"] = str(folder / "notify")
    command = [sys.executable, "-m", "prefork_chat", "serve", "--config", f"{folder}/config.toml"]
    with (folder / "log").open("wb") as log, pinned(cpus):
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )


def _await_ready(process: subprocess.Popen[bytes], news: socket.socket, folder: Path) -> None:
    """Wait for the daemon's READY=1 (sd_notify(3)), which it sends when every worker serves."""
    deadline = time.monotonic() + START_SECONDS
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(news, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if news.fileno() in ready and b"READY=1" in news.recv(4096).split(b"\n"):
                return
            if ended in ready:
                raise DaemonError(f"the daemon ended before it was ready:\n{_log_end(folder)}")
    finally:
        os.close(ended)
    raise DaemonError(f"the daemon was not ready after {START_SECONDS} s:\n{_log_end(folder)}")


def _address(folder: Path) -> str:
    """Return where the daemon says that it listens: the port was the kernel's choice."""
    for line in (folder / "log").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "supervisor.ready":
            return str(event["listen"])
    raise DaemonError(f"the daemon does not say where it listens:\n{_log_end(folder)}")


def _log_end(folder: Path) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-10:])


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise DaemonError(f"the daemon did not stop on SIGTERM:\n{_log_end(folder)}") from None
    if code != 0:
        raise DaemonError(f"the daemon stopped with exit code {code}:\n{_log_end(folder)}")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind, however the benchmark ended."""
    if process.returncode is None and _ends_on_sigterm(process):
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of them have gone, as they should
    process.wait()


def _ends_on_sigterm(process: subprocess.Popen[bytes]) -> bool:
    """Give the daemon a chance to remove its IPC objects; tell whether it took it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
