"""`python -m benchmarks.adoption`: how long clients wait when their worker is killed, and what for.

Two tables. First: a daemon of one worker, so that all clients are its own. They connect and join;
then, again and again, the worker is stopped, every client sends a PING, and the worker is killed:
from that moment on until the first and until the last client has its answer. So the times hold the
supervisor's reaction, fork, adoption, and the answers themselves. Second: what this costs when
nobody dies, CPU time a message with `durability = "exact"` and `"fast"`, round by round in turns.

Exit codes: 0 all was sound; 1 a connection ended, or an answer was wrong; 2 it could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from benchmarks import processes
from benchmarks.build import BuildError, build_loadgen
from benchmarks.daemon import DaemonError, Server, serve
from benchmarks.load import LoadError
from benchmarks.report import Result, table
from benchmarks.rounds import Round, Setup, run_round
from benchmarks.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.load import Load

ANSWER_SECONDS: Final = 60.0
_MOST_EVENTS: Final = 1024
_POLL_SECONDS: Final = 0.002
_LANES: Final = 100  # clients that connect before they are waited for: less than server.backlog
_COMPARED: Final = ("busy", "single")
_MODES: Final = ("exact", "fast")


class WrongAnswer(Exception):  # noqa: N818 - what is measured is wrong, not the measuring
    """A client did not get what it has to get: the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long clients waited after one kill, in milliseconds: the first, the median, the last."""

    first_ms: float
    median_ms: float
    last_ms: float


@dataclass(frozen=True, slots=True)
class Waits:
    """The kills of one daemon."""

    clients: int
    kills: tuple[Wait, ...]

    def row(self) -> list[str]:
        """Return the cells of a line of the table."""
        cells = [f"{self.clients:,}", str(len(self.kills))]
        for name in ("first_ms", "median_ms", "last_ms"):
            values = sorted(getattr(wait, name) for wait in self.kills)
            cells.append(f"{statistics.median(values):.1f} / {_percentile(values, 99):.1f}")
        return cells


class Clients:
    """Joined clients on one epoll; silent but for `ask_all`. Closes them at the end of `with`."""

    def __init__(self, address: str, count: int) -> None:
        """Connect and join `count` clients."""
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        host, _, port = address.rpartition(":")
        for start in range(0, count, _LANES):
            names = [f"client{n}" for n in range(start, min(start + _LANES, count))]
            lane = [self._connect((host, int(port)), name) for name in names]
            answers = [f"OK JOIN {name}".encode() for name in names]
            self._hear(dict(zip(lane, answers, strict=True)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._sockets.values():
            client.close()
        self._epoll.close()

    def ask_all(self, token: str) -> None:
        """Send a PING from every client."""
        line = f"PING {token}\n".encode()
        for client in self._sockets.values():
            client.send(line)

    def hear_all(self, token: str) -> list[float]:
        """Wait for everybody's answer; return when each came, in order, in monotonic seconds."""
        answer = f"OK PING {token}".encode()
        return self._hear(dict.fromkeys(self._sockets, answer))

    def _connect(self, address: tuple[str, int], name: str) -> int:
        client = socket.create_connection(address)
        client.send(f"JOIN {name}\n".encode())
        fd = client.fileno()
        self._sockets[fd] = client
        self._epoll.register(fd, select.EPOLLIN)
        return fd

    def _hear(self, expected: dict[int, bytes]) -> list[float]:
        """Wait until each of `expected` has got its line as the last one; return the times."""
        times: list[float] = []
        heard: dict[int, bytes] = {}
        deadline = time.monotonic() + ANSWER_SECONDS
        while expected:
            events = self._epoll.poll(max(0.0, deadline - time.monotonic()), _MOST_EVENTS)
            if not events:
                raise WrongAnswer(
                    f"{len(expected)} clients have no answer after {ANSWER_SECONDS} s"
                )
            for fd, _ in events:
                data = self._sockets[fd].recv(4096)
                now = time.monotonic()
                if not data:
                    raise WrongAnswer("a connection has ended")
                heard[fd] = heard.get(fd, b"") + data
                if not heard[fd].endswith(b"\n"):
                    continue
                last = heard.pop(fd).splitlines()[-1]
                if last == expected.get(fd):
                    del expected[fd]
                    times.append(now)
                elif not last.startswith(b"OK HELO"):
                    raise WrongAnswer(f"{last!r} came instead of {expected.get(fd)!r}")
        return times


def measure(clients_count: int, kills: int, threads: int) -> Waits:
    """Start a daemon, let clients join, and kill its worker so many times.

    Raises DaemonError, or WrongAnswer if a client noticed more than a delay.
    """
    options = {
        "server.workers": "1",
        "server.threads": str(threads),
        "server.max_clients": str(clients_count),
        "server.login_seconds": "3600.0",
        "respawn.quick_death_seconds": "0.001",
    }
    with serve(options, "tcp", None) as server, Clients(server.address, clients_count) as clients:
        waits = [_kill_once(server, clients, number) for number in range(kills)]
    return Waits(clients_count, tuple(waits))


def compare(rounds: int) -> list[Result]:
    """Measure what a message costs, exact and fast in turns."""
    binary = build_loadgen()
    starts = {mode: _start(mode) for mode in _MODES}
    results = []
    for scenario in (each for each in SCENARIOS if each.name in _COMPARED):
        found: dict[str, list[Round]] = {mode: [] for mode in _MODES}
        for number in range(rounds):
            for mode in _MODES:
                setup = Setup(binary=binary, start=starts[mode], generator_cpus=None)
                found[mode].append(run_round(setup, scenario.load, number + 1, lambda _: None))
        results += [
            Result(replace(scenario, name=f"{scenario.name} {mode}"), tuple(found[mode]))
            for mode in _MODES
        ]
    return results


def _start(mode: str) -> Callable[[Load], AbstractContextManager[Server]]:
    return lambda _: serve({"server.durability": json.dumps(mode)}, "tcp", None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    chosen = _parser().parse_args(arguments)
    processes.raise_fd_limit()
    try:
        waits = [measure(count, chosen.kills, chosen.threads) for count in chosen.clients]
        print(_table(waits))
        results = compare(chosen.rounds) if chosen.rounds else []
        if results:
            print("\n" + table(results))
    except WrongAnswer as error:
        print(f"benchmarks.adoption: {error}", file=sys.stderr)
        return 1
    except (BuildError, DaemonError, LoadError) as error:
        print(f"benchmarks.adoption: {error}", file=sys.stderr)
        return 2
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(each) for each in waits], indent=2) + "\n")
    return 1 if any(result.trouble for result in results) else 0


def _kill_once(server: Server, clients: Clients, number: int) -> Wait:
    pid = _worker_pid(server)
    os.kill(pid, signal.SIGSTOP)
    while processes.state(pid) != "T":
        time.sleep(_POLL_SECONDS)
    clients.ask_all(str(number))
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    times = [(at - killed) * 1000 for at in clients.hear_all(str(number))]
    return Wait(times[0], statistics.median(times), times[-1])


def _worker_pid(server: Server) -> int:
    """Return the pid of the only worker, by the log."""
    assert server.log is not None
    spawned = [event for event in _events(server.log) if event.get("event") == "worker.spawned"]
    return int(str(spawned[-1]["pid"]))


def _events(file: Path) -> Iterator[dict[str, object]]:
    for line in file.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # being written just now, or a stack dump
            yield json.loads(line)


def _percentile(values: list[float], share: int) -> float:
    return values[min(len(values) - 1, len(values) * share // 100)]


def _table(waits: Sequence[Waits]) -> str:
    titles = ["clients", "kills", "first answer ms p50/p99", "half p50/p99", "all p50/p99"]
    rows = [titles, *(each.row() for each in waits)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adoption",
        description="How long clients wait when their worker is killed; what exactness costs.",
        allow_abbrev=False,
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    parser.add_argument("--kills", type=int, default=20, help="for each N (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="loops of the worker (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="exact against fast; 0: leave it out (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every kill there, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
