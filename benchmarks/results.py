"""The comparison's result file: what it holds, and how it is written and read.

The file is all that the report and the pictures are made of, so they can be made again without
measuring. JSON by msgspec; figures have the names that README.md explains.
"""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.rounds import OTHERS_LIMIT_CORES, Figures, Round, median

if TYPE_CHECKING:
    from collections.abc import Sequence

_MILLION: Final = 1024 * 1024


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    cpus: int
    model: str
    memory_mib: int
    kernel: str
    descriptors: int  # RLIMIT_NOFILE, hard


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One server under one load: the median of its rounds, the least, the most, and every round.

    `failure` is why it could not be measured (then there are no rounds).
    """

    server: str
    title: str
    load: str
    options: dict[str, str] = {}
    figures: Figures = {}
    low: Figures = {}
    high: Figures = {}
    rounds: list[Figures] = []
    trouble: dict[str, int] = {}
    complaint: str = ""
    failure: str = ""
    discarded: int = 0

    @property
    def is_disturbed(self) -> bool:
        """Whether something else used the CPU in a round that had to be taken all the same."""
        return any(each.get("other_cores", 0.0) > OTHERS_LIMIT_CORES for each in self.rounds)


class Micro(msgspec.Struct, frozen=True):
    """A microbenchmark: nanoseconds for each of `per` ("line", "message")."""

    name: str
    per: str
    mean_ns: float
    deviation_ns: float


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """All that one run of the comparison has found."""

    date: str
    machine: Machine
    settings: dict[str, str]
    versions: dict[str, str]
    notes: list[str]
    contest: list[Entry] = []
    grid: list[Entry] = []
    costs: list[Entry] = []
    micro: list[Micro] = []

    @property
    def entries(self) -> list[Entry]:
        """Return what was measured with the load generator."""
        return [*self.contest, *self.grid, *self.costs]


def summarise(rounds: Sequence[Round]) -> tuple[Figures, Figures, Figures]:
    """Return (medians, least, most) of each figure on its own."""
    figures = [shortened(each.figures) for each in rounds]
    names = {name: None for each in figures for name in each}
    of = {name: [each[name] for each in figures if name in each] for name in names}
    low = {name: min(values) for name, values in of.items()}
    high = {name: max(values) for name, values in of.items()}
    return median(figures), low, high


def shortened(figures: Figures) -> Figures:
    """Return the figures with six digits each: more of them say nothing and make long files."""
    return {name: float(f"{value:.6g}") for name, value in figures.items()}


def write(document: Document, path: Path) -> None:
    """Write the file, in one step; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(document), indent=1)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(text + b"\n")
    unfinished.replace(path)


def read(path: Path) -> Document:
    """Read a file back. Raises OSError, or msgspec.DecodeError for what is none."""
    return msgspec.json.decode(path.read_bytes(), type=Document)


def this_machine() -> Machine:
    """Return what matters of this machine; its name is not in it."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        model=_cpu_model(),
        memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MILLION,
        kernel=platform.release(),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
