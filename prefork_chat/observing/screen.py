"""How `prefork-chat top` looks: a report as lines of a terminal, in ASCII. Pure.

Decides the columns, the sorting keys, and what is left out when there is little room.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefork_chat.observing.figures import UNKNOWN, duration, rate, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_chat.control import Attached
    from prefork_chat.observing.report import (
        AttendantActivity,
        Report,
        RoomActivity,
        WorkerActivity,
    )
    from prefork_chat.registry.endings import End

_MOST_ROOMS: Final = 8
_MOST_LOOPS: Final = 4  # whose clients are shown one by one


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of workers; `key` is what one presses to sort by it."""

    key: str
    heading: str
    meaning: str
    text: Callable[[WorkerActivity], str]
    rank: Callable[[WorkerActivity], float]


def _clients(worker: WorkerActivity) -> str:
    total = sum(worker.clients)
    if not 1 < len(worker.clients) <= _MOST_LOOPS:
        return str(total)
    return f"{total} ({'+'.join(map(str, worker.clients))})"


COLUMNS: Final = (
    Column("w", "WORKER", "number", lambda w: str(w.p_id), lambda w: -w.p_id),
    Column("p", "PID", "process", lambda w: str(w.pid or UNKNOWN), lambda w: -w.pid),
    Column("g", "GEN", "generation", lambda w: str(w.generation), lambda w: w.generation),
    Column("t", "STATE", "state", lambda w: w.state, lambda w: w.state != "ready"),
    Column("a", "AGE", "age", lambda w: duration(w.age_seconds), lambda w: w.age_seconds),
    Column("c", "CLIENTS", "clients (of each loop)", _clients, lambda w: sum(w.clients)),
    Column(
        "m",
        "MSG/S",
        "messages delivered a second",
        lambda w: rate(w.messages_per_second),
        lambda w: w.messages_per_second,
    ),
    Column(
        "l",
        "LINES/S",
        "lines read a second",
        lambda w: rate(w.lines_per_second),
        lambda w: w.lines_per_second,
    ),
    Column(
        "f",
        "QUEUE",
        "bytes that wait for it in socketpairs",
        lambda w: size(w.queued_bytes),
        lambda w: w.queued_bytes or 0,
    ),
    Column(
        "e",
        "FULL",
        "its fullest socketpair",
        lambda w: share(w.queue_share),
        lambda w: w.queue_share or 0.0,
    ),
    Column("u", "CPU", "CPU used", lambda w: share(w.cpu_share), lambda w: w.cpu_share or 0.0),
    Column("r", "RSS", "memory", lambda w: size(w.memory_bytes), lambda w: w.memory_bytes or 0),
    Column(
        "b",
        "BEAT",
        "age of its oldest heartbeat",
        lambda w: f"{w.heartbeat_seconds:.1f}s",
        lambda w: w.heartbeat_seconds,
    ),
)
BY_KEY: Final = {column.key: column for column in COLUMNS}
HELP: Final = (
    "What the columns mean, and the keys that sort by them (once more: the other way round)",
    "",
    *(f"   {column.key}   {column.heading:<8} {column.meaning}" for column in COLUMNS),
    "",
    "   h   this help, and back          q   quit",
    "",
    "Nothing here slows the daemon down: it is read from its shared memory and from /proc.",
)


@dataclass(slots=True)
class Sorting:
    """By which column, and which way round."""

    key: str = "w"
    is_reversed: bool = False

    def press(self, key: str) -> bool:
        """Sort by the column of a key, or turn round what is sorted by it; False: no such key."""
        if key not in BY_KEY:
            return False
        self.is_reversed = not self.is_reversed if key == self.key else False
        self.key = key
        return True

    def apply(self, workers: Sequence[WorkerActivity]) -> list[WorkerActivity]:
        """Return the workers, the greatest first; the lowest number, if it is by number."""
        column = BY_KEY[self.key]
        return sorted(workers, key=column.rank, reverse=not self.is_reversed)


def render(report: Report, daemon: Attached, sorting: Sorting, now: float) -> list[str]:
    """Return the whole picture; `now` is in seconds since the epoch."""
    return [
        *_summary(report, daemon, now),
        "",
        *_table(report, sorting),
        "",
        *_attendants(report.attendants),
        *_rooms(report.rooms),
        *_endings(report.endings, now),
    ]


def _summary(report: Report, daemon: Attached, now: float) -> list[str]:
    totals = report.totals
    where = ", ".join(daemon.listen) or "nowhere any more"
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    ready = f"{totals.ready} of {totals.workers} workers ready"
    clients = f"{totals.clients:,} of {totals.capacity:,} clients, {totals.names:,} with a name"
    messages = f"{rate(totals.messages_per_second)} messages/s"
    lines = f"{rate(totals.lines_per_second)} lines/s, {rate(totals.refused_per_second)} refused/s"
    memory = f"memory {size(totals.memory_bytes)}  queued {size(totals.queued_bytes)}"
    return [
        f"prefork-chat {daemon.version}  pid {daemon.pid}  {ready}  {clock}",
        f"at {where}  in {daemon.runtime_dir}",
        f"{clients}  {messages}  {lines}",
        f"CPU {share(totals.cpu_share)}  {memory}",
    ]


def _table(report: Report, sorting: Sorting) -> list[str]:
    workers = sorting.apply(report.workers)
    mark = "^" if sorting.is_reversed else "v"
    columns = [
        [
            column.heading + (mark if column.key == sorting.key else ""),
            *(column.text(worker) for worker in workers),
        ]
        for column in COLUMNS
    ]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in zip(*columns, strict=True)
    ]


def _attendants(attendants: Sequence[AttendantActivity]) -> list[str]:
    """Show those who are no workers, each in a line."""
    if not attendants:
        return []
    lines = [
        f"{each.name:<9}  pid {each.pid or UNKNOWN}  generation {each.generation}  {each.state}  "
        f"{duration(each.age_seconds)}  CPU {share(each.cpu_share)}  "
        f"memory {size(each.memory_bytes)}  heartbeat {each.heartbeat_seconds:.1f}s"
        for each in attendants
    ]
    return [*lines, ""]


def _rooms(rooms: Sequence[RoomActivity]) -> list[str]:
    if not rooms:
        return []
    shown = rooms[:_MOST_ROOMS]
    width = max(len(room.name) for room in shown)
    lines = [
        f"  {room.name:<{width}}  {room.members:>7,} members"
        f"  {rate(room.messages_per_second):>9} messages/s"
        for room in shown
    ]
    more = f" ({len(shown)} of {len(rooms):,})" if len(rooms) > len(shown) else ""
    return [f"Rooms, the busiest first{more}:", *lines, ""]


def _endings(endings: Sequence[End], now: float) -> list[str]:
    if not endings:
        return ["No worker has ended yet."]
    return ["Workers that have ended, the last one first:", *(_ending(end, now) for end in endings)]


def _ending(end: End, now: float) -> str:
    ago = duration(max(0.0, now - end.ended_at))
    lived = duration(end.lived_seconds)
    return (
        f"  {ago:>6} ago  worker {end.p_id} generation {end.generation} (pid {end.pid}) "
        f"{end.meaning}: {end.how} after {lived}"
    )
