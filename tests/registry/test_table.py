"""Rows of the worker table: who is alive, and what the supervisor's two stores mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.registry import table
from prefork_chat.registry.table import Order, WorkerState, WorkerTable
from tests.registry.processes import fork, wait

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry

WORKERS, THREADS = 3, 2


@pytest.fixture
def workers() -> WorkerTable:
    words = memoryview(bytearray(8 * WORKERS * table.loop_offset(THREADS))).cast("q")
    return WorkerTable(words, WORKERS, THREADS)


def test_begin_resets_the_row_and_starts_all_hearts(workers: WorkerTable) -> None:
    row = workers.row(1)
    row[:] = memoryview(bytes([1]) * row.nbytes).cast("q")
    row[table.INCARNATION] = 4
    workers.begin(1, 5, 777)
    report = workers.snapshot()[1]
    assert (report.p_id, report.pid, report.incarnation) == (1, 0, 5)
    assert report.state is WorkerState.STARTING
    assert (report.started_ns, report.router_heartbeat_ns, report.accepted) == (777, 777, 0)
    assert report.loops == (table.LoopReport(777, 0, 0, 0, 0, 0),) * THREADS
    assert workers.stalest_heartbeat_ns(1) == 777


def test_rows_and_loops_do_not_overlap(workers: WorkerTable) -> None:
    for p_id in range(WORKERS):
        workers.begin(p_id, p_id + 1, 100 + p_id)
        workers.row(p_id)[table.PID] = 5000 + p_id
        for t_id in range(THREADS):
            block = table.loop_offset(t_id)
            workers.row(p_id)[block + table.CLIENTS] = 10 * p_id + t_id
            workers.row(p_id)[block + table.BOUNCED] = 20 * p_id + t_id
    for p_id, report in enumerate(workers.snapshot()):
        assert report.pid == 5000 + p_id
        assert report.incarnation == workers.incarnations[p_id] == p_id + 1
        assert [loop.clients for loop in report.loops] == [10 * p_id, 10 * p_id + 1]
        assert workers.clients(p_id) == 20 * p_id + 1
        assert [loop.bounced for loop in report.loops] == [20 * p_id, 20 * p_id + 1]


def test_end_negates_the_incarnation_and_keeps_what_was_counted(workers: WorkerTable) -> None:
    workers.begin(0, 3, 1)
    row = workers.row(0)
    row[table.PID] = 99
    row[table.loop_offset(1) + table.CLIENTS] = 7
    row[table.loop_offset(1) + table.LINES] = 70
    workers.end(0)
    workers.end(0)
    report = workers.snapshot()[0]
    assert report.incarnation == -3
    assert report.state is WorkerState.GONE
    assert report.pid == 0
    assert (report.loops[1].clients, report.loops[1].lines) == (0, 70)


@pytest.mark.parametrize("again", [3, 2, 0, -4])
def test_incarnations_only_grow(workers: WorkerTable, again: int) -> None:
    workers.begin(0, 3, 1)
    workers.end(0)
    with pytest.raises(ValueError, match="incarnation"):
        workers.begin(0, again, 2)
    workers.begin(0, 4, 2)


def test_successor_does_not_inherit_an_order(workers: WorkerTable) -> None:
    """A row of zeros says hand over, which is what a worker does when nobody gave an order."""
    assert workers.row(1)[table.ORDER] == Order.HAND_OVER
    workers.begin(1, 1, 1)
    for order in Order:
        workers.row(1)[table.ORDER] = order
        assert Order(workers.row(1)[table.ORDER]) is order
    workers.end(1)
    workers.begin(1, 2, 2)
    assert workers.row(1)[table.ORDER] == Order.HAND_OVER


def test_fields_of_a_row_do_not_overlap() -> None:
    fields = (
        table.PID,
        table.INCARNATION,
        table.STATE,
        table.STARTED_NS,
        table.ACCEPTED,
        table.ROUTER_HEARTBEAT,
        table.ORDER,
    )
    assert sorted(fields) == list(range(len(fields)))
    assert max(fields) < table.loop_offset(0)


def test_stalest_heartbeat_is_that_of_the_one_that_hangs(workers: WorkerTable) -> None:
    workers.begin(2, 1, 100)
    row = workers.row(2)
    row[table.ROUTER_HEARTBEAT] = 300
    row[table.loop_offset(0) + table.HEARTBEAT] = 200
    row[table.loop_offset(1) + table.HEARTBEAT] = 400
    assert workers.stalest_heartbeat_ns(2) == 200
    row[table.loop_offset(0) + table.HEARTBEAT] = 500
    assert workers.stalest_heartbeat_ns(2) == 300


@pytest.mark.parametrize("p_id", [-1, WORKERS])
def test_there_is_no_row_beyond_the_workers(workers: WorkerTable, p_id: int) -> None:
    with pytest.raises(IndexError):
        workers.row(p_id)


def test_never_started_worker_is_gone(workers: WorkerTable) -> None:
    workers.end(0)
    assert workers.snapshot()[0].incarnation == 0
    assert workers.snapshot()[0].state is WorkerState.GONE


def test_what_a_child_writes_the_parent_reads(registry: Registry) -> None:
    def beat() -> None:
        registry.table.row(1)[table.ROUTER_HEARTBEAT] = 5
        registry.table.row(1)[table.STATE] = WorkerState.READY

    assert wait(fork(beat)) == 0
    report = registry.table.snapshot()[1]
    assert (report.router_heartbeat_ns, report.state) == (5, WorkerState.READY)
