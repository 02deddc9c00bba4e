"""`python -m benchmarks compare`: the daemon beside other servers, and what its own switches cost.

Measures in four parts (contest, grid, costs, micro), and writes `results/<date>.json`, a report
`<date>.md` and its pictures `<date>-*.svg`. With `--render FILE` it makes report and pictures of a
result file again. README.md says how to read them.

Exit codes: 0 all was sound; 1 something was lost, doubled, refused or could not be measured (the
report says what); 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import DecodeError, structs

from benchmarks import contest, markdown, matrix, micro, plots, results
from benchmarks.build import BuildError, build_loadgen
from benchmarks.daemon import DaemonError
from benchmarks.measure import add_cpu_options, assignments
from benchmarks.micro import MicroError
from benchmarks.peers import contestants, debian
from benchmarks.peers.debian import FetchError
from benchmarks.processes import raise_fd_limit
from benchmarks.progress import show
from benchmarks.results import Document
from benchmarks.turns import Plan, take_turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contest import Trial
    from benchmarks.peers.contestants import Contestant
    from benchmarks.results import Entry, Micro

RESULTS: Final = Path(__file__).resolve().parent / "results"
PARTS: Final = ("contest", "grid", "costs", "micro")
# Rounds, seconds of the measured window, seconds of warm-up.
_FULL: Final = (3, 1.0, 0.3)
_QUICK: Final = (1, 0.5, 0.2)
_GRID_ROUNDS: Final = 1  # 66 cells; their neighbours show how far to trust one


class UsageError(Exception):
    """The command line asks for what does not exist."""


_REASONS: Final = (
    BuildError,
    DaemonError,
    DecodeError,
    FetchError,
    MicroError,
    OSError,
    UsageError,
)  # for not measuring at all


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen of everything."""

    parts: tuple[str, ...]
    trials: list[Trial]
    contestants: list[Contestant]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    chosen = _parser().parse_args(arguments)
    raise_fd_limit()
    try:
        if chosen.render:
            document = results.read(chosen.render)
            return _finish(document, chosen.render)
        if chosen.fetch:
            show("fetching ngIRCd and InspIRCd")
            debian.fetch()
        field = contestants.assemble(assignments(chosen.set), chosen.server_cpus)
        choice = _choose(chosen, field.contestants)
        if chosen.list:
            _list(choice)
            return 0
        file = chosen.results / f"{_today()}.json"
        document = _measure(chosen, choice, field, file)
    except _REASONS as error:
        print(f"benchmarks compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks compare: interrupted; finished parts are written", file=sys.stderr)
        return 2
    return _finish(document, file)


def _today() -> str:
    return dt.datetime.now(tz=dt.UTC).date().isoformat()


def _finish(document: Document, file: Path) -> int:
    """Make the report and the pictures beside the result file, and say where."""
    pictures = plots.draw(document, file.with_suffix("")) if plots.is_possible() else []
    report = file.with_suffix(".md")
    report.write_text(markdown.report(document, [path.name for path in pictures]), encoding="utf-8")
    print(markdown.summary(document))
    print("\n" + "\n".join(map(str, [file, report, *pictures])))
    return 1 if any(entry.trouble or entry.failure for entry in document.entries) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks compare",
        description="Measure the daemon beside other servers; write a report with pictures.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="parts, loads, servers, as --list has them; of each kind all if none is named",
    )
    parser.add_argument("--list", action="store_true", help="list them and end")
    parser.add_argument(
        "--quick", action="store_true", help="about two minutes, to see that it works"
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="download Debian's ngIRCd and InspIRCd into .cache first; installs nothing",
    )
    parser.add_argument("--rounds", type=_positive, help="of everything (3)")
    parser.add_argument("--seconds", type=float, help="of a measured window (1)")
    parser.add_argument("--warm-up", type=float, metavar="SECONDS", help="before it (0.3)")
    parser.add_argument(
        "--attempts",
        type=_positive,
        default=3,
        help="at a round while something else uses the CPU (%(default)s)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a configuration key of the daemon and its value in TOML",
    )
    add_cpu_options(parser)
    parser.add_argument("--results", metavar="FOLDER", type=Path, default=RESULTS)
    parser.add_argument("--render", metavar="FILE", type=Path, help="make its report again")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _choose(chosen: argparse.Namespace, servers: Sequence[Contestant]) -> Choice:
    all_trials = contest.trials(contest.descriptor_limit())
    names = set(chosen.only)
    parts = [part for part in PARTS if part in names]
    trials = [trial for trial in all_trials if trial.name in names]
    found = [server for server in servers if server.name in names]
    unknown = names - {*parts, *(each.name for each in trials), *(each.name for each in found)}
    if unknown:
        raise UsageError(f"no {', '.join(sorted(unknown))}; see --list")
    if (trials or found) and not parts:
        parts = ["contest"]
    standard = [trial for trial in all_trials if trial.is_quick or not chosen.quick]
    default_parts = PARTS[:1] if chosen.quick else PARTS
    return Choice(tuple(parts or default_parts), trials or standard, found or list(servers))


def _list(choice: Choice) -> None:
    for part in choice.parts:
        print(f"{part:18} part")
    for trial in choice.trials:
        print(f"{trial.name:18} load: {trial.question}")
    for contestant in choice.contestants:
        print(f"{contestant.name:18} server: {contestant.title}")


def _measure(
    chosen: argparse.Namespace, choice: Choice, field: contestants.Field, file: Path
) -> Document:
    """Measure part after part; the file always has those that are finished."""
    plan = _plan(chosen)
    document = Document(
        date=file.stem,
        machine=results.this_machine(),
        settings=_settings(chosen, plan),
        versions=field.versions,
        notes=[*field.notes, *_limits(choice), *_missing()],
    )
    for part in choice.parts:
        document = structs.replace(document, **{part: _part(part, chosen, choice, plan)})
        results.write(document, file)
    return document


def _part(
    part: str, chosen: argparse.Namespace, choice: Choice, plan: Plan
) -> list[Entry] | list[Micro]:
    options = assignments(chosen.set)
    match part:
        case "contest":
            return take_turns(part, contest.jobs(choice.trials, choice.contestants), plan)
        case "costs":
            return take_turns(part, matrix.costs(options, chosen.server_cpus), plan)
        case "grid":
            once = replace(plan, rounds=min(plan.rounds, _GRID_ROUNDS))
            return take_turns(part, matrix.grid(options, chosen.server_cpus), once)
        case _:
            show("microbenchmarks")
            return micro.measure(is_quick=chosen.quick) if micro.is_possible() else []


def _plan(chosen: argparse.Namespace) -> Plan:
    rounds, seconds, warm_up = _QUICK if chosen.quick else _FULL
    return Plan(
        binary=build_loadgen(),
        rounds=chosen.rounds or rounds,
        seconds=chosen.seconds or seconds,
        warm_up_seconds=warm_up if chosen.warm_up is None else chosen.warm_up,
        attempts=chosen.attempts,
        generator_cpus=chosen.generator_cpus,
    )


def _settings(chosen: argparse.Namespace, plan: Plan) -> dict[str, str]:
    return {
        "rounds": str(plan.rounds),
        "measured window, s": f"{plan.seconds:g}",
        "warm-up, s": f"{plan.warm_up_seconds:g}",
        "servers on CPUs": _cpu_list(chosen.server_cpus),
        "generator on CPUs": _cpu_list(chosen.generator_cpus),
        **assignments(chosen.set),
    }


def _cpu_list(cpus: frozenset[int] | None) -> str:
    return "any" if cpus is None else ",".join(map(str, sorted(cpus)))


def _limits(choice: Choice) -> list[str]:
    held = [trial.load.clients for trial in choice.trials if trial.name == "held"]
    wanted = contest.WANTED_IDLE + contest.TALKERS
    if not held or held[0] >= wanted:
        return []
    limit = contest.descriptor_limit()
    count = held[0] - contest.TALKERS
    why = f"a process may have {limit:,} descriptors (RLIMIT_NOFILE)"
    return [f"{contest.WANTED_IDLE:,} clients cannot be held here, {count:,} are: {why}"]


def _missing() -> list[str]:
    notes = []
    if not micro.is_possible():
        notes.append("pyperf is not here, so there are no microbenchmarks (the extra bench has it)")
    if not plots.is_possible():
        notes.append("matplotlib is not here, so there are no pictures (the extra bench has it)")
    return notes
