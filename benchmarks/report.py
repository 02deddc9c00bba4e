"""How results look: a table for people, JSON for programs. Pure, but for the machine's name."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.rounds import OTHERS_LIMIT_CORES, Figures, Round, median

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.scenarios import Scenario

# A generator process that is busier than this may be the limit, and not the server.
GENERATOR_LIMIT_CORES: Final = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """A scenario and its rounds, of which there is at least one."""

    scenario: Scenario
    rounds: tuple[Round, ...]

    @property
    def figures(self) -> Figures:
        """Return the median over the rounds of each figure."""
        return median([each.figures for each in self.rounds])

    @property
    def trouble(self) -> dict[str, int]:
        """Return what went wrong in any round, added up; empty if all were sound."""
        names = {name: None for each in self.rounds for name in each.trouble}
        return {name: sum(each.trouble.get(name, 0) for each in self.rounds) for name in names}


def _number(name: str) -> Callable[[Figures], str]:
    return lambda figures: f"{figures[name]:,.0f}" if name in figures else ""


def _times(name: str) -> Callable[[Figures], str]:
    def text(figures: Figures) -> str:
        if f"{name}_p50_us" not in figures:
            return ""
        parts = (figures[f"{name}_{share}_us"] / 1000 for share in ("p50", "p99", "p999"))
        return " / ".join(f"{part:.3g}" for part in parts)

    return text


def _fraction(name: str) -> Callable[[Figures], str]:
    return lambda figures: f"{figures[name]:.2f}" if name in figures else ""


def _per_second(figures: Figures) -> str:
    return _number("messages_per_second")(figures) or _number("joins_per_second")(figures)


_COLUMNS: Final[tuple[tuple[str, Callable[[Figures], str]], ...]] = (
    ("per second", _per_second),
    ("delivery ms p50/p99/p99.9", _times("delivery")),
    ("receipt ms p50/p99/p99.9", _times("receipt")),
    ("server us", _fraction("server_us")),
    ("server cores", _fraction("server_cores")),
    ("generator cores", _fraction("generator_cores")),
    ("bytes/client", _number("client_pss_bytes")),
)


def table(results: Sequence[Result]) -> str:
    """Return a table with a line per scenario, then remarks."""
    head = ["scenario", *(title for title, _ in _COLUMNS), "spread", "sound"]
    rows = [head, *(_row(result) for result in results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    filled = [i for i in range(len(head)) if any(row[i] for row in rows[1:])]
    lines = ["  ".join(_pad(row[i], widths[i], i) for i in filled).rstrip() for row in rows]
    return "\n".join([*lines, *(remark for result in results for remark in _remarks(result))])


def document(results: Sequence[Result], settings: Mapping[str, object]) -> dict[str, object]:
    """Return all that was found, in types that JSON knows: every round, and the medians."""
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "settings": settings,
        "results": [
            {
                "scenario": result.scenario.name,
                "load": asdict(result.scenario.load),
                "figures": result.figures,
                "trouble": result.trouble,
                "rounds": [asdict(each) for each in result.rounds],
            }
            for result in results
        ],
    }


def _row(result: Result) -> list[str]:
    sound = "yes" if not result.trouble else "NO"
    cells = [text(result.figures) for _, text in _COLUMNS]
    return [result.scenario.name, *cells, _spread(result), sound]


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _spread(result: Result) -> str:
    """How far the rounds are apart, in the figure that the scenario is about."""
    about = ["messages_per_second", "joins_per_second", "client_pss_bytes"]
    if result.scenario.load.rate > 0:
        about.insert(0, "delivery_p99_us")
    name = next((name for name in about if name in result.figures), "")
    values = [each.figures[name] for each in result.rounds if name in each.figures]
    middle = result.figures.get(name, 0)
    return f"{(max(values) - min(values)) / middle:.0%}" if middle > 0 and len(values) > 1 else ""


def _remarks(result: Result) -> list[str]:
    name = result.scenario.name
    remarks: list[str] = []
    busy = result.figures["generator_cores"] / result.scenario.load.processes
    if busy > GENERATOR_LIMIT_CORES:
        remarks.append(f"{name}: the generator was busy all the time; give it --processes")
    others = result.figures.get("other_cores", 0)
    if others > OTHERS_LIMIT_CORES:
        remarks.append(f"{name}: other processes used {others:.2f} cores: do not trust the figures")
    if result.trouble:
        counts = ", ".join(f"{count} {what}" for what, count in result.trouble.items())
        complaint = next((each.complaint for each in result.rounds if each.complaint), "")
        remarks.append(f"{name}: {counts}; the first: {complaint or 'no line tells'}")
    return remarks
