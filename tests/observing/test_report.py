"""What two snapshots come to, and what that looks like."""

from __future__ import annotations

from msgspec.structs import replace

from prefork_chat.control import Attached
from prefork_chat.observing import screen
from prefork_chat.observing.figures import rate, share, size
from prefork_chat.observing.report import Report, compare
from prefork_chat.observing.screen import Sorting, render
from prefork_chat.observing.snapshot import (
    Fill,
    RoomSnapshot,
    Snapshot,
    Usage,
    WorkerSnapshot,
)
from prefork_chat.registry.endings import End
from prefork_chat.registry.table import LoopReport, WorkerReport, WorkerState

SECOND_NS = 1_000_000_000
DAEMON = Attached("1.2.3", 4711, "/run/chat", ("127.0.0.1:7000", "unix:/run/chat.sock"))
END = End(
    number=1,
    p_id=1,
    generation=4,
    pid=99,
    meaning="crashed",
    how="SIGSEGV",
    ended_at=1_000_000.0,
    lived_seconds=61.0,
)


def worker(
    p_id: int,
    now: int,
    *,
    delivered: int = 0,
    started: int = 1,
    state: WorkerState = WorkerState.READY,
    usage: Usage | None = None,
    queued: int = 0,
) -> WorkerSnapshot:
    loop = LoopReport(now * SECOND_NS, 3, 2 * delivered, delivered, 0, 0)
    row = WorkerReport(
        p_id=p_id,
        pid=0 if state is WorkerState.GONE else 100 + p_id,
        incarnation=-2 if state is WorkerState.GONE else 2,
        state=state,
        started_ns=started * SECOND_NS,
        accepted=0,
        router_heartbeat_ns=(now - 2) * SECOND_NS,
        loops=(loop, loop),
    )
    return WorkerSnapshot(row, usage, Fill(queued, 1000), (Fill(0, 1000), Fill(2 * queued, 1000)))


def snapshot(now: int, *workers: WorkerSnapshot, endings: tuple[End, ...] = ()) -> Snapshot:
    return Snapshot(
        taken_ns=now * SECOND_NS,
        workers=workers,
        supervisor=Usage(float(now), 1000),
        clients=6,
        names=5,
        capacity=100,
        endings=endings,
    )


def test_rates_are_of_the_time_in_between() -> None:
    report = compare(
        snapshot(10, worker(0, 10, delivered=1000, usage=Usage(3.0, 1))),
        snapshot(12, worker(0, 12, delivered=1500, usage=Usage(4.0, 2048), queued=100)),
    )
    (activity,) = report.workers
    assert report.seconds == 2.0
    assert activity.messages_per_second == 500  # two loops
    assert activity.lines_per_second == 1000
    assert activity.cpu_share == 0.5
    assert activity.memory_bytes == 2048
    assert (activity.queued_bytes, activity.queue_share) == (300, 0.2)
    assert activity.heartbeat_seconds == 2.0
    assert activity.age_seconds == 11.0
    assert activity.clients == (3, 3)
    assert (activity.generation, activity.state) == (2, "ready")
    assert report.totals.cpu_share == 1.5, "the supervisor's, too"
    assert report.totals.memory_bytes == 3048
    assert (report.totals.ready, report.totals.workers) == (1, 1)


def test_a_new_worker_has_counted_from_nothing() -> None:
    report = compare(
        snapshot(10, worker(0, 10, delivered=1000)),
        snapshot(11, worker(0, 11, delivered=30, started=10), worker(1, 11, delivered=7)),
    )
    assert [activity.messages_per_second for activity in report.workers] == [60, 14]
    assert [activity.cpu_share for activity in report.workers] == [None, None]


def test_a_worker_without_a_process_does_nothing() -> None:
    report = compare(
        snapshot(10, worker(0, 10, delivered=1000)),
        snapshot(11, worker(0, 11, delivered=1000, state=WorkerState.GONE)),
    )
    (activity,) = report.workers
    assert activity.messages_per_second == 0
    assert (activity.age_seconds, activity.heartbeat_seconds) == (0, 0)
    assert (report.totals.ready, report.totals.workers) == (0, 0)


def test_where_pairs_cannot_be_seen_nothing_is_said_of_them() -> None:
    seen = replace(worker(0, 10), queue=None, loop_queues=(None, None))
    (activity,) = compare(snapshot(9), snapshot(10, seen)).workers
    assert (activity.queued_bytes, activity.queue_share) == (None, None)


def report() -> Report:
    return compare(
        snapshot(10, worker(0, 10), worker(1, 10), worker(2, 10)),
        snapshot(
            11,
            worker(0, 11, delivered=5),
            worker(1, 11, delivered=50, usage=Usage(1.0, 37 << 20)),
            worker(2, 11, state=WorkerState.GONE),
            endings=(END,),
        ),
    )


def test_the_picture_has_all_of_it() -> None:
    lines = render(report(), DAEMON, Sorting(), 1_000_075.0)
    text = "\n".join(lines)
    assert "prefork-chat 1.2.3  pid 4711  2 of 2 workers ready" in lines[0]
    assert "at 127.0.0.1:7000, unix:/run/chat.sock  in /run/chat" in text
    assert "6 of 100 clients, 5 with a name  110 messages/s  220 lines/s, 0 refused/s" in text
    heading = next(line for line in lines if "WORKERv" in line)
    rows = lines[lines.index(heading) + 1 :][:3]
    assert {len(row) for row in rows} == {len(heading)}, "aligned"
    assert rows[1].split() == [
        *("1", "101", "2", "ready", "10s", "6", "(3+3)", "100", "200", "0", "0.0%", "100.0%"),
        *("37M", "2.0s"),
    ]
    assert rows[2].split()[:4] == ["2", "-", "2", "gone"]
    assert lines[-1] == "   1m15s ago  worker 1 generation 4 (pid 99) crashed: SIGSEGV after 1m01s"


def test_rooms_are_listed_the_busiest_first() -> None:
    def rooms(*said: int) -> tuple[RoomSnapshot, ...]:
        return tuple(
            RoomSnapshot((place, 1), f"#room{place}", 10 * place, count)
            for place, count in enumerate(said)
        )

    report = compare(
        replace(snapshot(1), rooms=rooms(5, 100, 7)),
        replace(snapshot(3), rooms=rooms(25, 100, 7, 50)),
    )
    assert [(room.name, room.members, room.messages_per_second) for room in report.rooms] == [
        ("#room0", 0, 10.0),
        ("#room3", 30, 0.0),
        ("#room2", 20, 0.0),
        ("#room1", 10, 0.0),
    ]
    lines = render(report, DAEMON, Sorting(), 0.0)
    heading = lines.index("Rooms, the busiest first:")
    assert lines[heading + 1].split() == ["#room0", "0", "members", "10", "messages/s"]
    many = replace(snapshot(1), rooms=rooms(*range(20)))
    text = "\n".join(render(compare(many, many), DAEMON, Sorting(), 0.0))
    assert "Rooms, the busiest first (8 of 20):" in text


def test_before_any_worker_has_ended_that_is_said() -> None:
    lines = render(compare(snapshot(1), snapshot(2)), DAEMON, Sorting(), 0.0)
    assert lines[-1] == "No worker has ended yet."


def test_keys_sort_and_sort_the_other_way_round() -> None:
    sorting = Sorting()
    workers = report().workers

    def order() -> list[int]:
        return [activity.p_id for activity in sorting.apply(workers)]

    assert order() == [0, 1, 2]
    assert sorting.press("m")
    assert order() == [1, 0, 2]
    assert sorting.press("m")
    assert order() == [2, 0, 1]
    assert sorting.press("w")
    assert order() == [0, 1, 2]
    assert not sorting.press("?")
    assert order() == [0, 1, 2]


def test_every_column_can_be_sorted_by_a_key_of_its_own() -> None:
    keys = [column.key for column in screen.COLUMNS]
    assert len(set(keys)) == len(keys)
    assert not {"h", "q"} & set(keys)
    workers = report().workers
    for key in keys:
        sorting = Sorting()
        sorting.press(key)
        assert len(sorting.apply(workers)) == 3
    assert len([line for line in screen.HELP if line.startswith("   ")]) == len(keys) + 1


def test_figures_are_short() -> None:
    assert [size(count) for count in (None, 0, 812, 4200, 38_000_000, 5 << 40, 5000 << 40)] == [
        *("-", "0", "812", "4.1K", "36M", "5.0T", "5000T")
    ]
    assert [rate(value) for value in (0, 0.25, 9.94, 10, 1048576)] == [
        *("0", "0.2", "9.9", "10", "1,048,576")
    ]
    assert [share(value) for value in (None, 0, 0.005, 1.5)] == ["-", "0.0%", "0.5%", "150.0%"]
