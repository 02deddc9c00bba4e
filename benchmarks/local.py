"""`python -m benchmarks.local`: one file through each mechanism, and through cat and socat.

The commands are those that people type (`WAYS`): `prefork-chat ipc serve` and `ipc read`, and those
of the system that do the same. Rounds go in turns, all ways once and then all again. What comes out
is written to a file, as with `> copy`, and its SHA-256 is compared when the clock has stopped.

Two times, taken alike for all. *Moving*: from the first bytes in that file to the last, looked at
every half millisecond; no process starts in it. *Whole*: from before the first process is started
until all have ended, so with Python's start, twice. CPU time is that of all processes, whole.

Exit codes: 0 all came out intact; 1 something did not; 2 it could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.build import ROOT
from benchmarks.peers import debian
from benchmarks.progress import announce, show
from prefork_chat.channels import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIZE_BYTES: Final = 100_000_000
_LOOK_SECONDS: Final = 0.0005
_PATIENCE_SECONDS: Final = 300.0
_BLOCK_BYTES: Final = 1 << 20
_MEGABYTE: Final = 1e6
_MEMORY: Final = Path("/dev/shm")  # where the file and its copy are in nobody's way: not on a disk

_SERVE: Final = '"$PYTHON" -m prefork_chat ipc serve --quiet --via {} --key "$KEY" "$FILE"'
_READ: Final = '"$PYTHON" -m prefork_chat ipc read --quiet --wait 20 --via {} --key "$KEY"'
_LISTEN: Final = '"$SOCAT" -u {}FILE:"$FILE" UNIX-LISTEN:"$SOCKET"'
_CONNECT: Final = '"$SOCAT" -u {}UNIX-CONNECT:"$SOCKET",retry=1000,interval=0.01 STDOUT'


class Damaged(Exception):  # noqa: N818 - what is measured is wrong, not the measuring
    """A command failed, or what came out is not what went in."""


@dataclass(frozen=True, slots=True)
class Way:
    """How the file is moved: shell commands that run side by side; the last one's stdout counts.

    `rival_of`: the mechanism that does the same. `needs_socat`: left out where there is none.
    """

    name: str
    commands: tuple[str, ...]
    rival_of: str = ""
    needs_socat: bool = False


WAYS: Final = (
    *(Way(each, (_SERVE.format(each), _READ.format(each))) for each in names.ALL),
    Way("cat, cat", ('cat "$FILE" | cat',), names.PIPE),
    Way("cat, FIFO, cat", ('cat "$FILE" > "$FIFO"', 'cat "$FIFO"'), names.FIFO),
    Way("socat", (_LISTEN.format(""), _CONNECT.format("")), names.SOCKET, needs_socat=True),
    Way(
        "socat -b 65536",
        (_LISTEN.format("-b 65536 "), _CONNECT.format("-b 65536 ")),
        names.SOCKET,
        needs_socat=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Move:
    """One way in one round."""

    moving_seconds: float
    whole_seconds: float
    cpu_seconds: float


@dataclass(slots=True)
class Measured:
    """All rounds of one way. Owner: the benchmark's only thread."""

    way: Way
    size_bytes: int
    moves: list[Move] = field(default_factory=list)

    def median(self, figure: Callable[[Move], float]) -> float:
        """Return the median of a figure."""
        return statistics.median(map(figure, self.moves))

    def row(self) -> list[str]:
        """Return the cells of a line of the table."""
        return [
            self.way.name,
            self._cell(self._megabytes_per_second, 0),
            self._cell(lambda move: move.whole_seconds * 1000, 0),
            self._cell(lambda move: move.cpu_seconds * 1000, 0),
        ]

    def _megabytes_per_second(self, move: Move) -> float:
        return self.size_bytes / move.moving_seconds / _MEGABYTE

    def _cell(self, figure: Callable[[Move], float], decimals: int) -> str:
        values = [figure(move) for move in self.moves]
        low, high = f"{min(values):,.{decimals}f}", f"{max(values):,.{decimals}f}"
        return f"{statistics.median(values):,.{decimals}f} ({low}-{high})"


class Place:
    """A folder with the file, its copy, and all that the commands name. Owner: `measure`."""

    def __init__(self, folder: Path, size_bytes: int, socat: Path | None) -> None:
        """Make the file, of random bytes, and the names."""
        self._copy: Final = folder / "copy"
        self._errors: Final = folder / "errors"
        self._file: Final = folder / "file"
        self._socket: Final = folder / "socket"
        with self._file.open("wb") as file:
            for start in range(0, size_bytes, _BLOCK_BYTES):
                file.write(os.urandom(min(_BLOCK_BYTES, size_bytes - start)))
        self._digest: Final = _digest(self._file)
        (folder / "key").touch()
        os.mkfifo(folder / "fifo")
        self._environment: Final = {
            **os.environ,
            "PYTHON": sys.executable,
            "XDG_RUNTIME_DIR": str(folder),  # for the ledger of channels
            "SOCAT": str(socat),
            "SOCKET": str(self._socket),
            "FILE": str(self._file),
            "FIFO": str(folder / "fifo"),
            "KEY": str(folder / "key"),
        }

    def move(self, way: Way) -> Move:
        """Move the file once, and see that it is the same. Raises Damaged."""
        self._socket.unlink(missing_ok=True)  # socat leaves it
        environment = self._environment | (debian.environment() if way.needs_socat else {})
        before = _children_cpu_seconds()
        with self._copy.open("wb") as copy, self._errors.open("wb") as errors:
            whole, moving = self._run(way, environment, copy.fileno(), errors.fileno())
        cpu = _children_cpu_seconds() - before
        if _digest(self._copy) != self._digest:
            raise Damaged(f"{way.name}: what came out is not what went in")
        self._copy.unlink()
        return Move(moving, whole, cpu)

    def _run(
        self, way: Way, environment: Mapping[str, str], copy: int, errors: int
    ) -> tuple[float, float]:
        """Run the commands side by side; return the seconds of the whole, and of moving."""
        last = len(way.commands) - 1
        with contextlib.ExitStack() as undo:
            started = time.perf_counter()
            processes = []
            for number, command in enumerate(way.commands):
                process = undo.enter_context(
                    subprocess.Popen(
                        ["sh", "-c", command],
                        cwd=ROOT,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=copy if number == last else subprocess.DEVNULL,
                        stderr=errors,
                        start_new_session=True,  # so that all can be ended that it has started
                    )
                )
                undo.callback(_end, process)
                processes.append(process)
            moving = _watch(processes, copy, started + _PATIENCE_SECONDS)
            whole = time.perf_counter() - started
        if any(process.returncode for process in processes):
            said = self._errors.read_text(encoding="utf-8", errors="replace").strip()
            raise Damaged(f"{way.name}: {said or 'a command failed, or took too long'}")
        return whole, moving


def measure(ways: Sequence[Way], size_bytes: int, rounds: int, folder: Path) -> list[Measured]:
    """Move a file of that size by all ways, again and again. Raises Damaged."""
    found = [Measured(way, size_bytes) for way in ways]
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-", dir=folder) as name:
        place = Place(Path(name), size_bytes, debian.find("socat"))
        for number in range(rounds):
            announce(f"round {number + 1} of {rounds}")
            for each in found:
                show(f"round {number + 1} of {rounds}: {each.way.name}")
                each.moves.append(place.move(each.way))
        show("")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.fetch and debian.find("socat") is None:
            debian.fetch(packages=("socat",))
        ways = [way for way in WAYS if not way.needs_socat or debian.find("socat") is not None]
        found = measure(ways, chosen.size, chosen.rounds, chosen.folder)
    except Damaged as error:
        print(f"benchmarks.local: {error}", file=sys.stderr)
        return 1
    except (debian.FetchError, OSError) as error:
        print(f"benchmarks.local: {error}", file=sys.stderr)
        return 2
    print(report(found))
    if len(ways) < len(WAYS):
        print("\nsocat is not here and was left out: apt install socat, or --fetch")
    return 0


def report(found: Sequence[Measured]) -> str:
    """Return both tables: what was measured, and each mechanism beside those that do the same."""
    by_name = {each.way.name: each for each in found}
    ratios = [
        [
            each.way.rival_of,
            each.way.name,
            f"{ours.median(_moving) / each.median(_moving):.2f}",
            f"{ours.median(_whole) / each.median(_whole):.2f}",
        ]
        for each in found
        if (ours := by_name.get(each.way.rival_of)) is not None
    ]
    titles = ["way", "moving, MB/s", "whole, ms", "CPU, ms"]
    head = f"{found[0].size_bytes:,} bytes, {len(found[0].moves)} rounds: median (least-most)"
    beside = ["mechanism", "beside", "time of moving, times", "time of the whole, times"]
    return "\n\n".join(
        (head, _table(titles, [each.row() for each in found]), _table(beside, ratios))
    )


def _moving(move: Move) -> float:
    return move.moving_seconds


def _whole(move: Move) -> float:
    return move.whole_seconds


def _watch(processes: Sequence[subprocess.Popen[bytes]], copy: int, deadline: float) -> float:
    """Wait for all; return for how long the copy grew, as if its first bytes had taken time, too.

    At the deadline it returns all the same: whoever started the processes kills them.
    """
    first = last = 0.0
    first_bytes = size_bytes = 0
    is_running = True
    while is_running and time.perf_counter() < deadline:
        is_running = any(process.poll() is None for process in processes)
        now, status = time.perf_counter(), os.fstat(copy)
        if status.st_size > size_bytes:
            if not size_bytes:
                first, first_bytes = now, status.st_size
            last, size_bytes = now, status.st_size
        if is_running:
            time.sleep(_LOOK_SECONDS)
    if size_bytes == first_bytes:
        return _LOOK_SECONDS
    return (last - first) * size_bytes / (size_bytes - first_bytes)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a shell that still runs, and what it has started."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.local",
        description="Move a file from process to process by all mechanisms, cat and socat.",
        allow_abbrev=False,
    )
    parser.add_argument("--size", type=int, default=SIZE_BYTES, metavar="BYTES")
    parser.add_argument("--rounds", type=int, default=9, help="(%(default)s)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir()),
        help="where the file and its copy are (%(default)s)",
    )
    parser.add_argument(
        "--fetch", action="store_true", help="download Debian's socat if there is none"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
