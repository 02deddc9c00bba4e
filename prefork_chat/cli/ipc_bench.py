"""`prefork-chat ipc bench`: throughput and round trips of all mechanisms, between two processes.

Each mechanism gets a peer, a Python process started by this one, and two channels, one for each
direction. The first byte of a message says what the peer does with it: nothing, or send it back.
Throughput is messages without an answer until one with an answer is back; a round trip is a message
of that size and its echo. The clock is this process's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.channels import mechanisms, names
from prefork_chat.channels.errors import ChannelError, PeerGone
from prefork_chat.cli import ipc_plot
from prefork_chat.cli.ipc_signals import Stopped, stoppable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from prefork_chat.channels.channel import Receiver, Sender

SIZES_BYTES: Final = (64, 1024, 65536)
_ECHO: Final = b"E"
_SINK: Final = b"S"
_PEER_SECONDS: Final = 20.0  # for an interpreter to start on a busy machine
_BATCH: Final = 64  # messages between two looks at the clock
_ROW: Final = "{:<14} {:>9} {:>12} {:>10} {:>13} {:>10}"
_PEER_CODE: Final = (
    "import sys; from prefork_chat.cli import ipc_bench; ipc_bench.answer(*sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured for one mechanism and size."""

    mechanism: str
    size_bytes: int
    messages_per_second: float
    round_trip_us: float
    round_trip_p99_us: float

    @property
    def megabytes_per_second(self) -> float:
        """Throughput in MB (10^6 bytes) a second."""
        return self.messages_per_second * self.size_bytes / 1e6


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table row by row, draw; return the exit code. Raises ChannelError."""
    if arguments.plot is not None:
        ipc_plot.check_can_draw(arguments.plot)
    print(_ROW.format("MECHANISM", "SIZE", "MESSAGES/S", "MB/S", "ROUND TRIP", "P99"))
    figures = []
    try:
        with stoppable():
            for mechanism in arguments.via or names.ALL:
                for figure in measure(mechanism, arguments.seconds, arguments.ledger):
                    figures.append(figure)
                    print(_row(figure), flush=True)
    except Stopped as stopped:
        return stopped.exit_code
    if arguments.plot is not None:
        ipc_plot.draw(figures, arguments.plot)
        print(f"drawn: {arguments.plot}", file=sys.stderr)
    return 0


def measure(mechanism: str, seconds: float, ledger: Path | None) -> Iterator[Figure]:
    """Measure one mechanism with all sizes, for `seconds` each."""
    with _peer(mechanism, ledger) as (sender, receiver):
        for size_bytes in SIZES_BYTES:
            _round_trips(sender, receiver, size_bytes, seconds / 10)  # to warm up
            per_second = _throughput(sender, receiver, size_bytes, seconds)
            trips = _round_trips(sender, receiver, size_bytes, seconds)
            yield Figure(
                mechanism,
                size_bytes,
                per_second,
                statistics.median(trips) * 1e6,
                trips[int(len(trips) * 0.99)] * 1e6,
            )


def answer(mechanism: str, there: str, back: str, ledger: str) -> None:
    """Be the peer: read the channel `there`, serve the channel `back`, until the end."""
    directory = Path(ledger) if ledger else None
    with (
        mechanisms.connect(mechanism, Path(there), directory) as receiver,
        mechanisms.serve(mechanism, Path(back), directory) as sender,
    ):
        while (message := receiver.receive()) is not None:
            if message[:1] == _ECHO:
                sender.send(message)
        sender.finish()


@contextmanager
def _peer(mechanism: str, ledger: Path | None) -> Iterator[tuple[Sender, Receiver]]:
    """Start the peer and open both channels; the peer has ended after the block."""
    with tempfile.TemporaryDirectory(prefix="prefork-chat-bench-") as folder:
        there, back = Path(folder) / "there", Path(folder) / "back"
        there.touch()
        back.touch()
        with mechanisms.serve(mechanism, there, ledger) as sender:
            words = (mechanism, str(there), str(back), str(ledger or ""))
            command = [sys.executable, "-c", _PEER_CODE, *words]
            # Ctrl-C is for this process; it ends the peer.
            process = subprocess.Popen(command, start_new_session=True)
            try:
                with mechanisms.connect(mechanism, back, ledger, _PEER_SECONDS) as receiver:
                    yield sender, receiver
                    sender.finish()
                    if receiver.receive() is not None:
                        raise ChannelError("the peer sent something that was not asked for")
                process.wait(_PEER_SECONDS)
            finally:
                process.kill()
                process.wait()


def _throughput(sender: Sender, receiver: Receiver, size_bytes: int, seconds: float) -> float:
    """Return messages a second."""
    message = _SINK.ljust(size_bytes, b".")
    count = 1
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(_BATCH):
            sender.send(message)
        count += _BATCH
    sender.send(_ECHO.ljust(size_bytes, b"."))
    _receive(receiver)
    return count / (time.perf_counter() - started)


def _round_trips(
    sender: Sender, receiver: Receiver, size_bytes: int, seconds: float
) -> list[float]:
    """Return the times of at least one round trip, in seconds, shortest first."""
    message = _ECHO.ljust(size_bytes, b".")
    trips: list[float] = []
    end = time.perf_counter() + seconds
    while not trips or time.perf_counter() < end:
        started = time.perf_counter()
        sender.send(message)
        _receive(receiver)
        trips.append(time.perf_counter() - started)
    return sorted(trips)


def _receive(receiver: Receiver) -> None:
    if receiver.receive() is None:
        raise PeerGone("the peer has ended")


def _row(figure: Figure) -> str:
    return _ROW.format(
        figure.mechanism,
        _size(figure.size_bytes),
        f"{figure.messages_per_second:,.0f}",
        f"{figure.megabytes_per_second:,.0f}",
        f"{figure.round_trip_us:,.0f} us",
        f"{figure.round_trip_p99_us:,.0f} us",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes // 1024} KiB" if size_bytes >= 1024 else f"{size_bytes} B"
