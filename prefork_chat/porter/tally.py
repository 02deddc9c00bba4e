"""What the board says: the present from a snapshot, and sums that outlive workers.

The counters of a worker begin anew with each process, those of the board only grow: what each
worker has counted since the last snapshot is added up here. What one counted between the last
snapshot and its death is missing. A porter's successor knows from the board which workers were
there before it, and how far they had counted lines and messages; of connections and refusals, what
those workers counted between the two porters is missing. Pure; owner: the porter's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.board.layout import Content, Figures, Row, Text
from prefork_chat.registry.table import WorkerState

if TYPE_CHECKING:
    from prefork_chat.bulletin import Posted
    from prefork_chat.observing.snapshot import Snapshot
    from prefork_chat.registry.table import WorkerReport

_COUNTERS: Final = ("lines", "delivered", "refused")


class Tally:
    """Sums since the start of the daemon."""

    def __init__(self, before: Content | None, supervisor_pid: int) -> None:
        """Go on from what a predecessor has put on the board; None: there was none."""
        figures = before.figures if before else Figures()
        self._supervisor_pid: Final = supervisor_pid
        is_of_this_daemon = before is not None and figures.supervisor_pid == supervisor_pid
        self._shown: Final = dict(enumerate(before.workers)) if before and is_of_this_daemon else {}
        self._sums: Final = {
            "accepted": figures.accepted,
            "lines": figures.lines,
            "delivered": figures.delivered,
            "refused": figures.refused,
        }
        self._last: dict[int, tuple[int, dict[str, int]]] = {}

    def content(self, snapshot: Snapshot, now_ns: int, notice: Posted, said: Posted) -> Content:
        """Return what the board is to say; `now_ns` is CLOCK_REALTIME."""
        for worker in snapshot.workers:
            self._add(worker.row)
        rows = {worker.row.p_id: _row(worker.row) for worker in snapshot.workers}
        places = max(rows, default=-1) + 1
        return Content(
            figures=Figures(
                updated_ns=now_ns,
                supervisor_pid=self._supervisor_pid,
                workers=places,
                clients=snapshot.clients,
                names=snapshot.names,
                rooms=len(snapshot.rooms),
                **self._sums,
            ),
            notice=Text(*notice),
            broadcast=Text(*said),
            workers=tuple(rows.get(p_id, Row()) for p_id in range(places)),
        )

    def _add(self, row: WorkerReport) -> None:
        counted = {name: sum(getattr(loop, name) for loop in row.loops) for name in _COUNTERS}
        counted["accepted"] = row.accepted
        started_ns, before = self._last.get(row.p_id, (0, {}))
        if started_ns != row.started_ns:
            before = self._added_before_us(row, counted)
        for name, count in counted.items():
            self._sums[name] += count - before.get(name, 0)
        self._last[row.p_id] = (row.started_ns, counted)

    def _added_before_us(self, row: WorkerReport, counted: dict[str, int]) -> dict[str, int]:
        """Return what our predecessor has added up of a process that is new to us."""
        shown = self._shown.pop(row.p_id, None)
        if shown is None or shown.generation != abs(row.incarnation):
            return {}
        return counted | {"lines": shown.lines, "delivered": shown.delivered}


def _row(row: WorkerReport) -> Row:
    is_gone = row.state is WorkerState.GONE
    beats = (row.router_heartbeat_ns, *(loop.heartbeat_ns for loop in row.loops))
    return Row(
        state=row.state,
        pid=row.pid,
        generation=abs(row.incarnation),
        heartbeat_ns=0 if is_gone else min(beats),
        clients=sum(loop.clients for loop in row.loops),
        lines=sum(loop.lines for loop in row.loops),
        delivered=sum(loop.delivered for loop in row.loops),
    )
