"""How a peer is started and ended: a child process in a session and a folder of its own.

Called from the benchmark's only thread. A peer runs in the foreground and ends on SIGTERM; it is
killed if it does not.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Final

from benchmarks.daemon import Server, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02


class PeerError(Exception):
    """A peer did not start; the text has the end of what it said."""


@contextlib.contextmanager
def serve_on_port_it_prints(
    command: Sequence[str], folder: Path, cpus: frozenset[int] | None
) -> Iterator[Server]:
    """Run a program that chooses its port and prints it; it must listen by then."""
    with _running(command, folder, cpus, {}, subprocess.PIPE) as process:
        assert process.stdout is not None
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        poll.poll(START_SECONDS * 1000)
        line = os.read(process.stdout.fileno(), 64)
        if not line.strip().isdigit():
            raise PeerError(f"{command[0]} does not say where it listens:\n{_log_end(folder)}")
        yield Server(f"127.0.0.1:{int(line)}", process.pid)


@contextlib.contextmanager
def serve_on_port(
    command: Sequence[str],
    folder: Path,
    cpus: frozenset[int] | None,
    port: int,
    environment: Mapping[str, str],
) -> Iterator[Server]:
    """Run a program that was told its port; wait until it can be connected to."""
    with _running(command, folder, cpus, environment, subprocess.DEVNULL) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _is_listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"{command[0]} does not listen:\n{_log_end(folder)}")
            time.sleep(_POLL_SECONDS)
        yield Server(f"127.0.0.1:{port}", process.pid)


def free_port() -> int:
    """Return a port on which nobody listens now; for programs that cannot choose one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def _running(
    command: Sequence[str],
    folder: Path,
    cpus: frozenset[int] | None,
    environment: Mapping[str, str],
    stdout: int,
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log, pinned(cpus):
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _log_end(folder: Path) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-10:])
