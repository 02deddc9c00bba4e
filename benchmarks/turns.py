"""In which order things are measured: all once, then all again (A B A B), never A A B B.

So what changes slowly - another guest on the host, heat - changes for all alike. A round in which
something else used the CPU is repeated. Who cannot be measured is left out from then on, with the
reason; the others go on. Called from the benchmark's only thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.daemon import DaemonError
from benchmarks.load import Load, LoadError
from benchmarks.peers.programs import PeerError
from benchmarks.progress import announce, show
from benchmarks.results import Entry, shortened, summarise
from benchmarks.rounds import Round, Setup, run_quiet_round

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.peers.contestants import Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured, and where the generator runs."""

    binary: Path
    rounds: int
    seconds: float
    warm_up_seconds: float
    attempts: int
    generator_cpus: frozenset[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One server under one load.

    `once`: in the first round only, for what hardly varies. `least_seconds`: of its window.
    """

    server: str
    title: str
    load_name: str
    load: Load
    start: Start
    options: dict[str, str] = field(default_factory=dict)
    once: bool = False
    least_seconds: float = 0.0


def take_turns(what: str, jobs: Sequence[Job], plan: Plan) -> list[Entry]:
    """Measure all jobs, round by round; an entry for each, in their order."""
    found: list[list[Round]] = [[] for _ in jobs]
    failures: dict[int, str] = {}
    total = sum(1 if job.once else plan.rounds for job in jobs)
    done = 0
    began = time.monotonic()
    for number in range(1, plan.rounds + 1):
        announce(f"{what}: round {number} of {plan.rounds}, {time.monotonic() - began:.0f} s")
        for index, job in enumerate(jobs):
            if job.once and number > 1:
                continue
            left = (time.monotonic() - began) / done * (total - done) if done else 0.0
            title = f"{what} {done + 1}/{total}, {left:.0f} s left: {job.load_name} {job.title}"
            done += 1
            if index in failures:
                continue
            try:
                found[index].append(_run(job, plan, number, title))
            except (DaemonError, LoadError, PeerError) as error:
                failures[index] = str(error)
    show("")
    return [_entry(job, found[i], failures.get(i, "")) for i, job in enumerate(jobs)]


def _run(job: Job, plan: Plan, number: int, title: str) -> Round:
    def tell(joined: int) -> None:
        show(f"{title}: {joined:,} joined")

    show(title)
    seconds = max(plan.seconds, job.least_seconds)
    load = replace(job.load, seconds=seconds, warm_up_seconds=plan.warm_up_seconds)
    setup = Setup(binary=plan.binary, start=job.start, generator_cpus=plan.generator_cpus)
    return run_quiet_round(setup, load, number, tell, plan.attempts)


def _entry(job: Job, rounds: Sequence[Round], failure: str) -> Entry:
    figures, low, high = summarise(rounds)
    names = {name: None for each in rounds for name in each.trouble}
    return Entry(
        server=job.server,
        title=job.title,
        load=job.load_name,
        options=job.options,
        figures=figures,
        low=low,
        high=high,
        rounds=[shortened(each.figures) for each in rounds],
        trouble={name: sum(each.trouble.get(name, 0) for each in rounds) for name in names},
        complaint=next((each.complaint for each in rounds if each.complaint), ""),
        failure=failure,
        discarded=sum(each.discarded for each in rounds),
    )
