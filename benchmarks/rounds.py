"""What one round is and which figures it gives; a result is the median of several rounds.

A round is a fresh server, one run of the generator against it, and the server's cost in the
measured window. Called from the benchmark's only thread.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from benchmarks import processes
from benchmarks.load import Load, LoadError, Outcome, Progress, WindowClosed, WindowOpened, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.daemon import Server

OTHERS_LIMIT_CORES: Final = 0.15
"""The rest of the machine, the driver's own reading of /proc included, should stay below this."""

# Name to value; the names are explained in README.md. A figure that makes no sense is left out.
Figures: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The generator, on which CPUs it runs, and how a server for a load is started and ended."""

    binary: Path
    start: Callable[[Load], AbstractContextManager[Server]]
    generator_cpus: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Round:
    """One round's figures, and what went wrong in it: counts by name, and a line that tells.

    `discarded` rounds before it were disturbed by other processes.
    """

    figures: Figures
    trouble: dict[str, int]
    complaint: str
    discarded: int = 0

    @property
    def other_cores(self) -> float:
        """Return how much of the machine others used meanwhile."""
        return self.figures.get("other_cores", 0.0)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server, and the machine in all, have used up to a moment."""

    at_ns: int
    cpu_ns: int
    machine_cpu_ns: int
    pss_bytes: int


def run_round(setup: Setup, load: Load, seed: int, tell: Callable[[int], None]) -> Round:
    """Run one round; `tell` is called with the number of clients that are joined.

    Raises DaemonError or LoadError if it could not be run.
    """
    with setup.start(load) as server:
        return _measure(setup, server, load, seed, tell)


def run_quiet_round(
    setup: Setup, load: Load, seed: int, tell: Callable[[int], None], attempts: int
) -> Round:
    """Run a round, again while something else used the CPU, at most `attempts` times.

    Returns the first that was undisturbed, or else the least disturbed one. Raises as `run_round`.
    """
    least: Round | None = None
    for discarded in range(attempts):
        found = replace(run_round(setup, load, seed, tell), discarded=discarded)
        if least is None or found.other_cores < least.other_cores:
            least = found
        if found.other_cores <= OTHERS_LIMIT_CORES:
            return found
    assert least is not None
    return replace(least, discarded=attempts - 1)


def median(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure on its own."""
    names = {name: None for figures in rounds for name in figures}
    return {
        name: statistics.median(figures[name] for figures in rounds if name in figures)
        for name in names
    }


def _measure(
    setup: Setup, server: Server, load: Load, seed: int, tell: Callable[[int], None]
) -> Round:
    base = _cost(server)
    opened = closed = base
    outcome = None
    events = run(setup.binary, load, server.address, seed, setup.generator_cpus)
    with contextlib.closing(events):
        for event in events:
            match event:
                case Progress():
                    tell(event.joined)
                case WindowOpened():
                    opened = _cost(server)
                case WindowClosed():
                    closed = _cost(server)
                case Outcome():
                    outcome = event
                case _:
                    assert_never(event)
    if outcome is None:
        raise LoadError("loadgen ended without a result")
    figures = _generator_figures(load, outcome)
    if server.pid is not None:
        figures |= _server_figures(load, outcome, (base, opened, closed))
    complaints = server.complaints()
    trouble = outcome.trouble() | ({"server_warnings": len(complaints)} if complaints else {})
    return Round(figures, trouble, outcome.complaint or "".join(complaints[:1]))


def _cost(server: Server) -> Cost:
    if server.pid is None:
        return Cost(0, 0, 0, 0)
    # The clocks first: reading the memory of many processes takes a while.
    return Cost(
        at_ns=time.monotonic_ns(),
        cpu_ns=processes.cpu_ns(server.pid),
        machine_cpu_ns=processes.machine_cpu_ns(),
        pss_bytes=processes.pss_bytes(server.pid),
    )


def _generator_figures(load: Load, outcome: Outcome) -> Figures:
    figures: Figures = {"generator_cores": outcome.window_cpu_ns / 1e9 / outcome.seconds}
    if load.mode == "chat":
        figures["messages_per_second"] = outcome.window_delivered / outcome.seconds
    if load.mode == "join":
        figures["joins_per_second"] = outcome.window_cycles / outcome.seconds
    timed = {"delivery": outcome.delivery, "receipt": outcome.receipt, "lateness": outcome.lateness}
    for name, times in timed.items():
        if times.count:
            figures |= {
                f"{name}_p50_us": times.p50_us,
                f"{name}_p99_us": times.p99_us,
                f"{name}_p999_us": times.p999_us,
            }
    return figures


def _server_figures(load: Load, outcome: Outcome, costs: tuple[Cost, Cost, Cost]) -> Figures:
    base, opened, closed = costs
    span_ns = closed.at_ns - opened.at_ns
    cpu_share = (closed.cpu_ns - opened.cpu_ns) / span_ns
    machine_share = (closed.machine_cpu_ns - opened.machine_cpu_ns) / span_ns
    generator_share = outcome.window_cpu_ns / 1e9 / outcome.seconds
    figures: Figures = {
        "server_cores": cpu_share,
        "other_cores": max(0.0, machine_share - cpu_share - generator_share),
    }
    done = {"chat": outcome.window_delivered, "join": outcome.window_cycles, "idle": 0}[load.mode]
    if done:
        figures["server_us"] = cpu_share * outcome.seconds * 1e6 / done
    if load.mode == "idle":
        figures["base_pss_bytes"] = base.pss_bytes
        figures["client_pss_bytes"] = (closed.pss_bytes - base.pss_bytes) / load.clients
        figures["whole_pss_bytes_per_client"] = closed.pss_bytes / load.clients
    return figures
