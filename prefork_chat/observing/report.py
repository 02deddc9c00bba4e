"""What the daemon did between two snapshots: rates, shares and ages, for people and programs.

Pure; used by `prefork-chat top`. A worker that was replaced in between has counted from 0, and so
has what a worker did before it ended: what is not known counts as nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from prefork_chat.registry.table import WorkerState

if TYPE_CHECKING:
    from prefork_chat.observing.snapshot import Fill, Snapshot, Usage, WorkerSnapshot
    from prefork_chat.registry.endings import End
    from prefork_chat.registry.table import WorkerReport

_NANOSECONDS: Final = 1e9


class WorkerActivity(Struct, frozen=True, kw_only=True):
    """One worker. Rates are per second; None: not to be known here.

    `clients` are those of each loop. `queue_share` is how full the fullest of its pairs is, 0 to 1,
    `cpu_share` how much of a CPU it had. `heartbeat_seconds` is the age of its oldest heartbeat.
    """

    p_id: int
    pid: int
    generation: int
    state: str
    age_seconds: float
    clients: tuple[int, ...]
    messages_per_second: float
    lines_per_second: float
    queued_bytes: int | None
    queue_share: float | None
    cpu_share: float | None
    memory_bytes: int | None
    heartbeat_seconds: float


class AttendantActivity(Struct, frozen=True, kw_only=True):
    """One child of the supervisor that is no worker; as of a worker."""

    name: str
    pid: int
    generation: int
    state: str
    age_seconds: float
    cpu_share: float | None
    memory_bytes: int | None
    heartbeat_seconds: float


class RoomActivity(Struct, frozen=True, kw_only=True):
    """One room: who is in, and what is said there."""

    name: str
    members: int
    messages_per_second: float


class Totals(Struct, frozen=True, kw_only=True):
    """All workers together; CPU and memory are all processes', as far as known."""

    workers: int
    ready: int
    clients: int
    names: int
    capacity: int
    messages_per_second: float
    lines_per_second: float
    refused_per_second: float
    queued_bytes: int
    cpu_share: float
    memory_bytes: int


class Report(Struct, frozen=True, kw_only=True):
    """What happened in `seconds`, and how it is at their end.

    The room where most is said comes first, and so does the latest end.
    """

    seconds: float
    totals: Totals
    workers: tuple[WorkerActivity, ...]
    attendants: tuple[AttendantActivity, ...]
    rooms: tuple[RoomActivity, ...]
    endings: tuple[End, ...]


def compare(earlier: Snapshot, later: Snapshot) -> Report:
    """Return what happened between two snapshots of one daemon."""
    seconds = max((later.taken_ns - earlier.taken_ns) / _NANOSECONDS, 1e-9)
    before = {worker.row.p_id: worker for worker in earlier.workers}
    workers = tuple(
        _compare_worker(_same(before, worker), worker, seconds, later.taken_ns)
        for worker in later.workers
    )
    refused = sum(_grown(_same(before, worker), worker, "refused") for worker in later.workers)
    attendants = _compare_attendants(earlier, later, seconds)
    own = _cpu_share(earlier.supervisor, later.supervisor, seconds)
    shares = [own, *(each.cpu_share for each in workers)]
    shares += [each.cpu_share for each in attendants]
    usages = [later.supervisor, *(each.usage for each in later.workers)]
    usages += [each.usage for each in later.attendants]
    return Report(
        seconds=seconds,
        totals=Totals(
            workers=sum(worker.pid != 0 for worker in workers),
            ready=sum(worker.state == "ready" for worker in workers),
            clients=later.clients,
            names=later.names,
            capacity=later.capacity,
            messages_per_second=sum(worker.messages_per_second for worker in workers),
            lines_per_second=sum(worker.lines_per_second for worker in workers),
            refused_per_second=refused / seconds,
            queued_bytes=sum(worker.queued_bytes or 0 for worker in workers),
            cpu_share=sum(share or 0.0 for share in shares),
            memory_bytes=sum(usage.memory_bytes for usage in usages if usage is not None),
        ),
        workers=workers,
        attendants=attendants,
        rooms=_compare_rooms(earlier, later, seconds),
        endings=later.endings,
    )


def describe_state(row: WorkerReport) -> str:
    """Return what a worker is about, in one word."""
    return row.state.name.lower()


def heartbeat_seconds(row: WorkerReport, now_ns: int) -> float:
    """Return how old the oldest heartbeat of a worker is; 0 if it has no process."""
    if row.state is WorkerState.GONE:
        return 0.0
    oldest = min(row.router_heartbeat_ns, *(loop.heartbeat_ns for loop in row.loops))
    return max(0.0, (now_ns - oldest) / _NANOSECONDS)


def _compare_attendants(
    earlier: Snapshot, later: Snapshot, seconds: float
) -> tuple[AttendantActivity, ...]:
    before = {(each.name, each.row.started_ns): each.usage for each in earlier.attendants}
    return tuple(
        AttendantActivity(
            name=each.name,
            pid=each.row.pid,
            generation=abs(each.row.incarnation),
            state=describe_state(each.row),
            age_seconds=(later.taken_ns - each.row.started_ns) / _NANOSECONDS
            if each.row.pid
            else 0.0,
            cpu_share=_cpu_share(before.get((each.name, each.row.started_ns)), each.usage, seconds),
            memory_bytes=each.usage.memory_bytes if each.usage else None,
            heartbeat_seconds=heartbeat_seconds(each.row, later.taken_ns),
        )
        for each in later.attendants
    )


def _compare_rooms(earlier: Snapshot, later: Snapshot, seconds: float) -> tuple[RoomActivity, ...]:
    before = {room.key: room.said for room in earlier.rooms}
    rooms = [
        RoomActivity(
            name=room.name,
            members=room.members,
            messages_per_second=max(0, room.said - before.get(room.key, room.said)) / seconds,
        )
        for room in later.rooms
    ]
    rooms.sort(key=lambda room: (-room.messages_per_second, -room.members, room.name))
    return tuple(rooms)


def _same(before: dict[int, WorkerSnapshot], worker: WorkerSnapshot) -> WorkerSnapshot | None:
    """Return the earlier snapshot of this very worker, None if there was another one."""
    earlier = before.get(worker.row.p_id)
    if earlier is None or earlier.row.started_ns != worker.row.started_ns:
        return None
    return earlier


def _compare_worker(
    earlier: WorkerSnapshot | None, later: WorkerSnapshot, seconds: float, now_ns: int
) -> WorkerActivity:
    row = later.row
    is_gone = row.state is WorkerState.GONE
    fills = [fill for fill in (later.queue, *later.loop_queues) if fill is not None]
    return WorkerActivity(
        p_id=row.p_id,
        pid=row.pid,
        generation=abs(row.incarnation),
        state=describe_state(row),
        age_seconds=0.0 if is_gone else (now_ns - row.started_ns) / _NANOSECONDS,
        clients=tuple(loop.clients for loop in row.loops),
        messages_per_second=_grown(earlier, later, "delivered") / seconds,
        lines_per_second=_grown(earlier, later, "lines") / seconds,
        queued_bytes=sum(fill.queued_bytes for fill in fills) if fills else None,
        queue_share=max(map(_share, fills)) if fills else None,
        cpu_share=_cpu_share(earlier.usage if earlier else None, later.usage, seconds),
        memory_bytes=later.usage.memory_bytes if later.usage else None,
        heartbeat_seconds=heartbeat_seconds(row, now_ns),
    )


def _grown(earlier: WorkerSnapshot | None, later: WorkerSnapshot, counter: str) -> int:
    """Return by how much a counter of its loops has grown, all of them together."""
    if later.row.state is WorkerState.GONE:
        return 0
    now: int = sum(getattr(loop, counter) for loop in later.row.loops)
    then: int = sum(getattr(loop, counter) for loop in earlier.row.loops) if earlier else 0
    return max(0, now - then)


def _cpu_share(earlier: Usage | None, later: Usage | None, seconds: float) -> float | None:
    if later is None:
        return None
    before = 0.0 if earlier is None else earlier.cpu_seconds
    return max(0.0, later.cpu_seconds - before) / seconds


def _share(fill: Fill) -> float:
    return min(1.0, fill.queued_bytes / fill.limit_bytes)
