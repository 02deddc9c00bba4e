"""What the load generator is asked for and what it found: the Python side of `loadgen/main.c`.

The generator is a child process that speaks JSON lines on stdout; see there for the shapes. It
bounds every wait itself. Called from the benchmark's only thread.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from benchmarks.daemon import pinned

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

STOP_SECONDS: Final = 5.0

Mode: TypeAlias = Literal["chat", "idle", "join"]
Dialect: TypeAlias = Literal["native", "irc"]


class LoadError(Exception):
    """The load could not be generated; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of the generator.

    chat: `talkers` of the `clients` (0: all) talk at random, each with `in_flight` messages under
    way, or all together with `rate` messages a second if that is not 0; the others hold still. With
    a `room`, all clients are in it and the talkers talk there. idle: they join and hold still.
    join: `lanes` clients at a time connect, JOIN and LEAV, over and over. Otherwise `lanes` is how
    many connect at once. With a `password`, clients make accounts of their names.
    """

    mode: Mode = "chat"
    dialect: Dialect = "native"
    clients: int = 200
    talkers: int = 0
    room: bool = False
    password: str = ""
    quick_ack: bool = False  # acknowledge at once: a server that waits for it (Nagle) does not wait
    in_flight: int = 32
    payload_bytes: int = 64
    receipts: bool = False
    rate: float = 0
    lanes: int = 64
    processes: int = 1
    warm_up_seconds: float = 1
    seconds: float = 5
    drain_seconds: float = 5  # at most, for what is under way at the end

    def arguments(self, address: str, seed: int) -> list[str]:
        """Return the generator's arguments for a run against the server at `address`."""
        words: dict[str, object] = {
            "connect": address,
            "mode": self.mode,
            "dialect": self.dialect,
            "clients": self.clients,
            "talkers": self.talkers,
            "in-flight": self.in_flight,
            "payload": self.payload_bytes,
            "lanes": self.lanes,
            "processes": self.processes,
            "warm-up": self.warm_up_seconds,
            "seconds": self.seconds,
            "drain": self.drain_seconds,
            "seed": seed,
        }
        if self.rate > 0:
            words["rate"] = self.rate
        if self.password:
            words["password"] = self.password
        pairs = [text for key, value in words.items() for text in (f"--{key}", str(value))]
        switches = {
            "--receipts": self.receipts,
            "--quiet": not self.receipts,
            "--room": self.room,
            "--quick-ack": self.quick_ack,
            "--hold": True,
        }
        return [*pairs, *(switch for switch, is_on in switches.items() if is_on)]


class Progress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """So many clients are joined."""

    joined: int


class WindowOpened(msgspec.Struct, frozen=True, tag_field="event", tag="window_opened"):
    """The measured window begins now."""


class WindowClosed(msgspec.Struct, frozen=True, tag_field="event", tag="window_closed"):
    """The measured window ends now."""


class Times(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A histogram's summary; microseconds."""

    count: int
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float


class Outcome(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="event", tag="result"
):
    """What the generator found; the counters are described in `loadgen/run.h`."""

    seconds: float
    processes: int
    joined: int
    sent: int
    delivered: int
    receipts: int
    cycles: int
    notes: int
    reads: int
    writes: int
    window_delivered: int
    window_receipts: int
    window_cycles: int
    window_cpu_ns: int
    refused: int
    errors: int
    lost: int
    lost_receipts: int
    doubled: int
    reordered: int
    corrupted: int
    disconnects: int
    unfinished: int
    delivery: Times
    receipt: Times
    lateness: Times
    complaint: str
    is_sound: bool

    def trouble(self) -> dict[str, int]:
        """Return what went wrong, by name; empty if the run was sound."""
        counts = {
            "refused": self.refused,
            "errors": self.errors,
            "lost": self.lost,
            "lost_receipts": self.lost_receipts,
            "doubled": self.doubled,
            "reordered": self.reordered,
            "corrupted": self.corrupted,
            "disconnects": self.disconnects,
            "unfinished": self.unfinished,
        }
        return {name: count for name, count in counts.items() if count}


Event: TypeAlias = Progress | WindowOpened | WindowClosed | Outcome


def run(
    binary: Path, load: Load, address: str, seed: int, cpus: frozenset[int] | None
) -> Generator[Event, None, None]:
    """Run the generator and yield what it says, when it says it; the last is an Outcome.

    After WindowClosed the clients stay joined until the next event is asked for. `cpus` as in
    `daemon.serve`. Raises LoadError. Closing the iterator early ends the generator.
    """
    with pinned(cpus):
        process = subprocess.Popen(
            [str(binary), *load.arguments(address, seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield from _events(process.stdin, process.stdout)
        reason = process.stderr.read().strip()
        if process.wait() not in (0, 1):
            raise LoadError(reason or f"loadgen ended with exit code {process.returncode}")
    finally:
        _end(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def _end(process: subprocess.Popen[str]) -> None:
    """End the generator if it still runs; given time, it ends and reaps its own processes."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _events(stdin: IO[str], stdout: IO[str]) -> Iterator[Event]:
    decoder = msgspec.json.Decoder[Event](Event)
    for line in stdout:
        event = decoder.decode(line)
        yield event
        if isinstance(event, WindowClosed):
            stdin.close()  # ends what --hold waits for
