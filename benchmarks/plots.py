"""The comparison's pictures: SVG files by matplotlib, an extra, imported only when they are drawn.

The same results give the same files, byte for byte. Each picture is a table of panels: which
figure of which loads. Bars are medians; the thin line is from the least to the most of the rounds.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.results import Document, Entry

_SALT: Final = "prefork-chat"  # of the ids in an SVG
_PANEL_INCHES: Final = (5.6, 4.2)
_OWN_COLOUR: Final = "tab:blue"


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: groups of bars, a group for each load, a bar for each server."""

    title: str
    figure: str
    loads: tuple[str, ...]
    scale: float = 1.0
    is_logarithmic: bool = False


_ONE: Final = ("direct-50x1", "direct-200x1", "direct-1000x1")
_MANY: Final = ("direct-50x32", "direct-200x32", "direct-1000x32")
_ROOMS: Final = ("room-200", "room-1000")

_BARS: Final[dict[str, tuple[Panel, ...]]] = {
    "direct": (
        Panel("delivered, 1000/s (32 in flight)", "messages_per_second", _MANY, 1e-3),
        Panel("delivered, 1000/s (1 in flight)", "messages_per_second", _ONE, 1e-3),
        Panel("server CPU, µs a message (32 in flight)", "server_us", _MANY),
        Panel("server CPU, µs a message (1 in flight)", "server_us", _ONE),
    ),
    "rooms": (
        Panel("delivered, 1000/s", "messages_per_second", _ROOMS, 1e-3),
        Panel("server CPU, µs a delivery", "server_us", _ROOMS),
    ),
    "latency": (
        Panel("median ms", "delivery_p50_us", ("latency", "held"), 1e-3, is_logarithmic=True),
        Panel("99th percentile ms", "delivery_p99_us", ("latency", "held"), 1e-3, True),
    ),
    "clients": (
        Panel("connect, join, leave: 1000/s", "joins_per_second", ("joins",), 1e-3),
        Panel("bytes of an idle client (PSS)", "client_pss_bytes", ("idle-2000", "idle-10000")),
    ),
}


def is_possible() -> bool:
    """Whether matplotlib is here."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(document: Document, stem: Path) -> list[Path]:
    """Draw what there are results for, into files that begin with `stem`; return them."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra; see the module

    drawn: list[Path] = []
    with mpl.rc_context({"svg.hashsalt": _SALT, "font.size": 8}):
        for name, panels in _BARS.items():
            present = [panel for panel in panels if _bars(document, panel)]
            if present:
                drawn.append(_save(stem, name, len(present), _bar_painter(document, present)))
        if document.grid:
            loads = list(dict.fromkeys(entry.load for entry in document.grid))
            drawn.append(_save(stem, "grid", len(loads), _grid_painter(document, loads)))
        if document.costs:
            loads = list(dict.fromkeys(entry.load for entry in document.costs))
            drawn.append(_save(stem, "costs", len(loads), _cost_painter(document, loads)))
    return drawn


def _save(stem: Path, name: str, count: int, paint: Callable[[int, Any], None]) -> Path:
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns = min(count, 2)
    rows = -(-count // columns)
    size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows)
    picture = Figure(figsize=size, layout="constrained")
    for index, axes in enumerate(picture.subplots(rows, columns, squeeze=False).flat[:count]):
        paint(index, axes)
    path = stem.with_name(f"{stem.name}-{name}.svg")
    picture.savefig(path, format="svg", metadata={"Date": None})
    return path


def _bars(document: Document, panel: Panel) -> list[Entry]:
    return [
        entry
        for entry in document.contest
        if entry.load in panel.loads and panel.figure in entry.figures
    ]


def _bar_painter(document: Document, panels: Sequence[Panel]) -> Callable[[int, Any], None]:
    def paint(index: int, axes: Any) -> None:
        panel = panels[index]
        entries = _bars(document, panel)
        titles = list(dict.fromkeys(entry.title for entry in entries))
        loads = [load for load in panel.loads if any(entry.load == load for entry in entries)]
        height = 0.8 / len(loads)
        for number, load in enumerate(loads):
            of_load = [entry for entry in entries if entry.load == load]
            places = [titles.index(entry.title) + number * height for entry in of_load]
            axes.barh(
                places,
                [entry.figures[panel.figure] * panel.scale for entry in of_load],
                height,
                label=load,
                xerr=_whiskers(of_load, panel),
                error_kw={"lw": 0.6},
            )
        middle = 0.4 - height / 2
        axes.set_yticks([place + middle for place in range(len(titles))], titles)
        for label in axes.get_yticklabels():
            if label.get_text().startswith("prefork_chat"):
                label.set_color(_OWN_COLOUR)
        axes.invert_yaxis()
        axes.set_title(panel.title)
        axes.grid(axis="x", alpha=0.3)
        axes.legend(fontsize=7)
        if panel.is_logarithmic:
            axes.set_xscale("log")

    return paint


def _whiskers(entries: Sequence[Entry], panel: Panel) -> list[list[float]]:
    name, scale = panel.figure, panel.scale
    return [
        [(entry.figures[name] - entry.low[name]) * scale for entry in entries],
        [(entry.high[name] - entry.figures[name]) * scale for entry in entries],
    ]


def _grid_painter(document: Document, loads: Sequence[str]) -> Callable[[int, Any], None]:
    """CPU time a message over the number of threads; a line for each number of workers."""
    styles = {"turn lock": "-", "no turn lock": ":", "turn lock, pinned": "--"}

    def paint(index: int, axes: Any) -> None:
        entries = [
            entry
            for entry in document.grid
            if entry.load == loads[index] and "server_us" in entry.figures
        ]
        workers = list(dict.fromkeys(entry.options["server.workers"] for entry in entries))
        for title, style in styles.items():
            for number, count in enumerate(workers):
                line = [
                    (int(entry.options["server.threads"]), entry.figures["server_us"])
                    for entry in entries
                    if entry.title == title and entry.options["server.workers"] == count
                ]
                label = f"{count} worker{'s' * (count != '1')}, {title}"
                if not line:
                    continue
                axes.plot(*zip(*line, strict=True), style, marker=".", c=f"C{number}", label=label)
        axes.set_title(f"server CPU, µs a message: {loads[index]}")
        axes.set_xlabel("threads of a worker")
        axes.set_xscale("log", base=2)
        counts = sorted({int(entry.options["server.threads"]) for entry in entries})
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3)

    return paint


def _cost_painter(document: Document, loads: Sequence[str]) -> Callable[[int, Any], None]:
    def paint(index: int, axes: Any) -> None:
        entries = [
            entry
            for entry in document.costs
            if entry.load == loads[index] and "server_us" in entry.figures
        ]
        panel = Panel("", "server_us", (loads[index],))
        values = [entry.figures["server_us"] for entry in entries]
        whiskers = _whiskers(entries, panel)
        axes.barh([entry.title for entry in entries], values, xerr=whiskers, error_kw={"lw": 0.6})
        axes.invert_yaxis()
        axes.set_title(f"server CPU, µs a message: {loads[index]}")
        axes.grid(axis="x", alpha=0.3)

    return paint
