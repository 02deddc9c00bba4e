"""The comparison's report: Markdown made of a result file. Pure.

A table for each kind of load: a row for each server, median and (least-most) of the rounds. What
could not be measured, or was disturbed, or went wrong, is said where its figures are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.report import GENERATOR_LIMIT_CORES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.results import Document, Entry


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of an entry: its name in the file, its title, its unit's size and decimals."""

    figure: str
    title: str
    scale: float = 1.0
    decimals: int = 0

    def cell(self, entry: Entry) -> str:
        """Return the median, and the range if there were several rounds."""
        if self.figure not in entry.figures:
            return ""
        middle = self._number(entry.figures[self.figure])
        low, high = (self._number(each[self.figure]) for each in (entry.low, entry.high))
        return middle if low == high else f"{middle} ({low}-{high})"

    def _number(self, value: float) -> str:
        return f"{value * self.scale:,.{self.decimals}f}"


_THOUSANDS: Final = Column("messages_per_second", "delivered, 1000/s", 1e-3)
_SERVER: Final = Column("server_us", "server CPU, µs each", decimals=2)
_SERVER_CORES: Final = Column("server_cores", "server cores", decimals=2)
_GENERATOR: Final = Column("generator_cores", "generator cores", decimals=2)
_P50: Final = Column("delivery_p50_us", "p50 ms", 1e-3, 2)
_P99: Final = Column("delivery_p99_us", "p99 ms", 1e-3, 2)
_RECEIPT: Final = Column("receipt_p99_us", "receipt p99 ms", 1e-3, 2)
_JOINS: Final = Column("joins_per_second", "per second")
_BYTES: Final = Column("client_pss_bytes", "bytes a client")
_BASE: Final = Column("base_pss_bytes", "MB without clients", 1e-6, 1)

_TALK: Final = (_THOUSANDS, _SERVER, _P50, _P99, _SERVER_CORES, _GENERATOR)

# Heading, the picture that belongs there, how loads of this kind begin, and the columns.
_SECTIONS: Final[tuple[tuple[str, str, str, tuple[Column, ...]], ...]] = (
    ("Direct messages", "direct", "direct-", _TALK),
    ("One room", "rooms", "room-", _TALK),
    (
        "5,000 messages a second",
        "latency",
        "latency",
        (_P50, _P99, _RECEIPT, _SERVER, _SERVER_CORES, _GENERATOR),
    ),
    (
        "5,000 messages a second among many who hold still",
        "",
        "held",
        (_P50, _P99, _SERVER, _SERVER_CORES, _GENERATOR),
    ),
    (
        "Connect, join, leave",
        "clients",
        "joins",
        (_JOINS, _SERVER, _P50, _P99, _SERVER_CORES, _GENERATOR),
    ),
    ("Memory of idle clients", "", "idle-", (_BYTES, _BASE)),
)


def report(document: Document, pictures: Sequence[str]) -> str:
    """Return the whole report; `pictures` are names of files beside it."""
    lines = [f"# Comparison of {document.date}", "", *_setting(document)]
    for heading, picture, start, columns in _SECTIONS:
        entries = [entry for entry in document.contest if entry.load.startswith(start)]
        if entries:
            lines += [f"## {heading}", "", *_image(pictures, picture)]
        for load in dict.fromkeys(entry.load for entry in entries):
            of_load = [entry for entry in entries if entry.load == load]
            lines += [f"`{load}`", "", *_table("server", of_load, columns), ""]
    lines += _costs(document, pictures)
    lines += _grid(document, pictures)
    lines += _micro(document)
    return "\n".join([*lines, *_remarks(document)]).rstrip() + "\n"


def summary(document: Document) -> str:
    """Return what a terminal shows: the tables of the contest, and the remarks."""
    lines: list[str] = []
    for _, _, start, columns in _SECTIONS:
        entries = [entry for entry in document.contest if entry.load.startswith(start)]
        for load in dict.fromkeys(entry.load for entry in entries):
            of_load = [entry for entry in entries if entry.load == load]
            lines += [load, *_aligned([_head("server", columns), *_rows(of_load, columns)]), ""]
    columns = (_THOUSANDS, _SERVER)
    for part, name in ((document.costs, _title), (document.grid, _shape)):
        if part:
            rows = [[f"{e.load}, {name(e)}", *(c.cell(e) for c in columns)] for e in part]
            lines += [*_aligned([_head("ours", columns), *rows]), ""]
    if document.micro:
        lines += [*(f"{m.name}: {m.mean_ns:,.0f} ns a {m.per}" for m in document.micro), ""]
    return "\n".join([*lines, *_remarks(document)]).rstrip()


def _setting(document: Document) -> Iterator[str]:
    machine = document.machine
    yield (
        f"{machine.model}, {machine.cpus} CPUs, {machine.memory_mib:,} MiB, "
        f"Linux {machine.kernel}. Figures are medians of the rounds (least-most)."
    )
    yield ""
    yield from (f"- {name}: {value}" for name, value in document.versions.items())
    yield from (f"- {name}: {value}" for name, value in document.settings.items())
    yield ""
    yield from (f"> {note}\n>" for note in document.notes)
    yield ""


def _image(pictures: Sequence[str], name: str) -> list[str]:
    return [
        line
        for picture in pictures
        if name and picture.endswith(f"-{name}.svg")
        for line in (f"![{name}]({picture})", "")
    ]


def _head(first: str, columns: Sequence[Column]) -> list[str]:
    return [first, *(column.title for column in columns)]


def _rows(entries: Sequence[Entry], columns: Sequence[Column]) -> list[list[str]]:
    return [[_title(entry), *(column.cell(entry) for column in columns)] for entry in entries]


def _title(entry: Entry) -> str:
    return entry.title + (" (*)" if entry.is_disturbed else "")


def _table(first: str, entries: Sequence[Entry], columns: Sequence[Column]) -> list[str]:
    rows = [_head(first, columns), *_rows(entries, columns)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return [lines[0], "|---" + "|---:" * len(columns) + "|", *lines[1:]]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def _shape(entry: Entry) -> str:
    """What a cell of the grid is called outside of it; any other entry by its title."""
    options = entry.options
    workers, threads = options.get("server.workers"), options.get("server.threads")
    return f"{workers} x {threads}, {_title(entry)}" if workers and threads else _title(entry)


def _costs(document: Document, pictures: Sequence[str]) -> Iterator[str]:
    if not document.costs:
        return
    yield from ["## What our own switches cost", "", *_image(pictures, "costs")]
    for load in dict.fromkeys(entry.load for entry in document.costs):
        entries = [entry for entry in document.costs if entry.load == load]
        yield from [f"`{load}`", "", *_table("changed", entries, _TALK), ""]


def _grid(document: Document, pictures: Sequence[str]) -> Iterator[str]:
    """Workers down, threads across; CPU time a message and thousands a second in a cell."""
    if not document.grid:
        return
    yield from ["## Workers and threads", "", *_image(pictures, "grid")]
    yield from ["Server CPU in µs a message [1000 delivered a second], without receipts.", ""]
    threads = list(dict.fromkeys(entry.options["server.threads"] for entry in document.grid))
    for load, title in dict.fromkeys((entry.load, entry.title) for entry in document.grid):
        cells = {
            (entry.options["server.workers"], entry.options["server.threads"]): entry
            for entry in document.grid
            if (entry.load, entry.title) == (load, title)
        }
        yield from [f"`{load}`, {title}", ""]
        yield "| workers | " + " | ".join(f"{count} threads" for count in threads) + " |"
        yield "|---" + "|---:" * len(threads) + "|"
        for workers in dict.fromkeys(worker for worker, _ in cells):
            row = [_cell(cells.get((workers, count))) for count in threads]
            yield f"| {workers} | " + " | ".join(row) + " |"
        yield ""


def _cell(entry: Entry | None) -> str:
    if entry is None or "server_us" not in entry.figures:
        return ""
    rate = entry.figures["messages_per_second"] / 1000
    mark = " (*)" if entry.is_disturbed else ""
    return f"{entry.figures['server_us']:.2f} [{rate:,.0f}]{mark}"


def _micro(document: Document) -> Iterator[str]:
    if not document.micro:
        return
    yield from ["## Microbenchmarks", "", "| what | ns | for each |", "|---|---:|---|"]
    for each in document.micro:
        yield f"| {each.name} | {each.mean_ns:,.0f} ± {each.deviation_ns:,.0f} | {each.per} |"
    yield ""


def _remarks(document: Document) -> list[str]:
    remarks = [remark for entry in document.entries for remark in _of_entry(entry)]
    disturbed = [entry for entry in document.entries if entry.is_disturbed]
    if disturbed:
        most = max(each.get("other_cores", 0.0) for entry in disturbed for each in entry.rounds)
        remarks.append(
            f"- (*): other processes used up to {most:.2f} cores meanwhile, also when repeated "
            f"({len(disturbed)} of {len(document.entries)} results): do not trust these figures"
        )
    if not document.entries:
        return []
    return ["## Remarks", "", *(remarks or ["- All runs were sound and undisturbed."])]


def _of_entry(entry: Entry) -> Iterator[str]:
    name = f"{entry.load}, {_shape(entry)}"
    if entry.failure:
        yield f"- {name}: could not be measured: {entry.failure.splitlines()[0]}"
    if entry.trouble:
        counts = ", ".join(f"{count:,} {what}" for what, count in entry.trouble.items())
        yield f"- {name}: {counts}; the first: {entry.complaint or 'no line tells'}"
    if entry.figures.get("generator_cores", 0.0) > GENERATOR_LIMIT_CORES:
        yield f"- {name}: the generator was busy all the time: it was the limit, not the server"
