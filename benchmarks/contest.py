"""The loads that all servers are put under, and who meets which. A table and nothing else."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.load import Load
from benchmarks.turns import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.contestants import Contestant

TALKERS: Final = 200
WANTED_IDLE: Final = 30_000
# Descriptors that a server needs beside its clients' own: listeners, pairs, journals, files.
_RESERVED_DESCRIPTORS: Final = 1_800

# When thousands leave at once, their good-byes take a while; ngIRCd's a minute.
_CROWD_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A load with a name and a question. `once`: measured in the first round only."""

    name: str
    question: str
    load: Load
    once: bool = False
    is_quick: bool = False


def trials(descriptors: int) -> tuple[Trial, ...]:
    """Return the loads. `descriptors` is RLIMIT_NOFILE: it bounds how many can be held."""
    held = min(WANTED_IDLE, descriptors - _RESERVED_DESCRIPTORS)
    return (
        *(_direct(clients, in_flight) for clients in (50, 200, 1000) for in_flight in (1, 32)),
        Trial(
            name="latency",
            question=f"{TALKERS} clients, 5,000 messages a second in all",
            load=Load(rate=5000),
            is_quick=True,
        ),
        *(_room(members) for members in (200, 1000)),
        Trial(
            name="joins",
            question="connect, join, leave, 64 at a time",
            load=Load(mode="join"),
            is_quick=True,
        ),
        *(_idle(clients) for clients in (2000, 10_000)),
        Trial(
            name="held",
            question=f"{held:,} hold still while {TALKERS} send 5,000 messages a second",
            load=Load(
                clients=held + TALKERS, talkers=TALKERS, rate=5000, drain_seconds=_CROWD_SECONDS
            ),
            once=True,
        ),
    )


def descriptor_limit() -> int:
    """Return how many descriptors a process may have here at most."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def jobs(chosen: Sequence[Trial], contestants: Sequence[Contestant]) -> list[Job]:
    """Return every contestant under every load that it takes."""
    return [
        Job(
            server=contestant.name,
            title=contestant.title,
            load_name=trial.name,
            load=contestant.fit(trial.load),
            start=contestant.start,
            once=trial.once,
            least_seconds=contestant.least_join_seconds if trial.load.mode == "join" else 0.0,
        )
        for trial in chosen
        for contestant in contestants
        if contestant.takes(trial.load)
    ]


def _direct(clients: int, in_flight: int) -> Trial:
    return Trial(
        name=f"direct-{clients}x{in_flight}",
        question=f"{clients:,} clients to random others, {in_flight} in flight each",
        load=Load(clients=clients, in_flight=in_flight),
        is_quick=clients == TALKERS,
    )


def _room(members: int) -> Trial:
    return Trial(
        name=f"room-{members}",
        question=f"one room of {members:,}, 16 of them talk, 8 in flight each",
        load=Load(clients=members, talkers=16, in_flight=8, room=True),
        is_quick=members == TALKERS,
    )


def _idle(clients: int) -> Trial:
    return Trial(
        name=f"idle-{clients}",
        question=f"{clients:,} clients that are joined and silent",
        load=Load(mode="idle", clients=clients, drain_seconds=_CROWD_SECONDS),
        once=True,
        is_quick=clients == 2000,
    )
