"""What the board says of snapshots: sums that only grow, whoever is replaced."""

from __future__ import annotations

from prefork_chat.board.layout import Content, Figures, Row
from prefork_chat.bulletin import Posted
from prefork_chat.observing.snapshot import RoomSnapshot, Snapshot, WorkerSnapshot
from prefork_chat.porter.tally import Tally
from prefork_chat.registry.table import LoopReport, WorkerReport, WorkerState


def worker(
    p_id: int, started: int, lines: int, state: WorkerState = WorkerState.READY
) -> WorkerSnapshot:
    loop = LoopReport(7, 2, lines, lines // 2, 1, 0)
    row = WorkerReport(
        p_id=p_id,
        pid=0 if state is WorkerState.GONE else 100 + p_id,
        incarnation=started,
        state=state,
        started_ns=started,
        accepted=lines,
        router_heartbeat_ns=9,
        loops=(loop,),
    )
    return WorkerSnapshot(row, None, None, (None,))


def figures(tally: Tally, *workers: WorkerSnapshot) -> Figures:
    return content(tally, *workers).figures


def content(tally: Tally, *workers: WorkerSnapshot) -> Content:
    rooms = (RoomSnapshot((0, 1), "#a", 3, 0),)
    snapshot = Snapshot(
        taken_ns=1,
        workers=workers,
        supervisor=None,
        clients=5,
        names=4,
        capacity=10,
        endings=(),
        rooms=rooms,
    )
    return tally.content(snapshot, 99, Posted("notice", 1), Posted("", 0))


def test_sums_go_on_when_a_worker_is_replaced() -> None:
    tally = Tally(None, 42)
    assert figures(tally, worker(0, 1, 10), worker(1, 1, 4)).lines == 14
    assert figures(tally, worker(0, 1, 12), worker(1, 1, 4)).lines == 16
    assert figures(tally, worker(0, 2, 3), worker(1, 1, 6)).lines == 21
    assert figures(tally, worker(0, 2, 3, WorkerState.GONE), worker(1, 1, 6)).lines == 21
    now = figures(tally, worker(0, 2, 4), worker(1, 1, 6))
    assert (now.lines, now.accepted, now.refused) == (22, 22, 3)
    assert (now.clients, now.names, now.rooms, now.workers) == (5, 4, 1, 2)
    assert (now.updated_ns, now.supervisor_pid) == (99, 42)


def test_a_successor_goes_on_with_what_the_board_says() -> None:
    before = content(Tally(None, 42), worker(0, 1, 10))
    second = Tally(before, 42)
    now = figures(second, worker(0, 1, 12))
    assert (now.lines, now.delivered) == (12, 6)
    assert now.accepted == 10, "of connections, what was counted meanwhile is missing"
    now = figures(second, worker(0, 1, 15))
    assert (now.lines, now.accepted) == (15, 13)
    assert figures(second, worker(0, 1, 15), worker(1, 5, 2)).lines == 17


def test_a_successor_counts_all_of_the_workers_that_came_with_it() -> None:
    """As after an upgrade: what they have accepted already is new to the board."""
    before = content(Tally(None, 42), worker(0, 1, 10), worker(1, 1, 4))
    now = figures(Tally(before, 42), worker(0, 2, 3), worker(1, 1, 4, WorkerState.GONE))
    assert (now.lines, now.accepted) == (17, 17)


def test_workers_of_another_supervisor_are_others_whatever_their_generation() -> None:
    before = content(Tally(None, 41), worker(0, 1, 10))
    now = figures(Tally(before, 42), worker(0, 1, 3))
    assert (now.lines, now.accepted) == (13, 13)


def test_rows_are_by_number() -> None:
    shown = content(Tally(None, 42), worker(2, 3, 10))
    assert shown.workers[:2] == (Row(), Row())
    assert shown.workers[2] == Row(
        state=2, pid=102, generation=3, heartbeat_ns=7, clients=2, lines=10, delivered=5
    )
    assert (shown.notice.text, shown.broadcast.text) == ("notice", "")
