"""`python -m benchmarks [SCENARIO ...]`: measures the daemon alone and prints a table.

Exit codes: 0 all was sound; 1 something was lost, doubled, reordered, refused or complained of; 2 a
benchmark could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.build import BuildError, build_loadgen
from benchmarks.daemon import DaemonError, Server, roomy, serve
from benchmarks.load import Load, LoadError
from benchmarks.processes import raise_fd_limit
from benchmarks.progress import show
from benchmarks.report import Result, document, table
from benchmarks.rounds import Round, Setup, run_round
from benchmarks.scenarios import SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:16} {scenario.question}")
        return 0
    raise_fd_limit()
    try:
        scenarios = _scenarios(chosen)
        options = _options(chosen)
        setup = _setup(chosen, options)
        results = [_run(setup, scenario, chosen) for scenario in scenarios]
    except (BuildError, DaemonError, LoadError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 2
    print(table(results))
    if chosen.json:
        settings = {"server": options, "transport": chosen.transport}
        chosen.json.write_text(json.dumps(document(results, settings), indent=2) + "\n")
    return 1 if any(result.trouble for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the daemon: a fresh one per round, medians over the rounds.",
        allow_abbrev=False,
    )
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument(
        "scenario", nargs="*", metavar="SCENARIO", help=f"{', '.join(names)}; default: all"
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every round there, too")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per scenario (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the destinations (%(default)s)")
    _add_load_options(parser.add_argument_group("load, instead of the scenario's own"))
    _add_server_options(parser.add_argument_group("server"))
    return parser


def _add_load_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--clients", type=int)
    group.add_argument("--in-flight", type=int, metavar="N", help="messages per client")
    group.add_argument("--payload", type=int, metavar="BYTES", dest="payload_bytes")
    group.add_argument("--rate", type=float, metavar="N", help="messages a second in all; 0: any")
    group.add_argument("--lanes", type=int, metavar="N", help="clients that connect at a time")
    group.add_argument("--processes", type=int, metavar="N", help="of the generator")
    group.add_argument("--warm-up", type=float, metavar="SECONDS", dest="warm_up_seconds")
    group.add_argument("--seconds", type=float, help="of the measured window")
    group.add_argument("--password", metavar="TEXT", help="clients make accounts of their names")
    replies = group.add_mutually_exclusive_group()
    replies.add_argument("--receipts", action="store_const", const=True, help="with OK CHAT")
    replies.add_argument("--quiet", action="store_const", const=False, dest="receipts")


def _add_server_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workers", type=int, default=2, help="worker processes (%(default)s)")
    group.add_argument("--threads", type=int, default=2, help="loop threads each (%(default)s)")
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a configuration key of the daemon and its value in TOML: server.turn_lock=false",
    )
    group.add_argument("--transport", choices=("tcp", "unix"), default="tcp")
    add_cpu_options(group)
    group.add_argument(
        "--connect", metavar="ADDRESS", help="measure the server that listens there; starts none"
    )
    group.add_argument("--pid", type=int, help="with --connect: root of its process tree")


def add_cpu_options(group: argparse._ActionsContainer) -> None:
    """Add the options that say on which CPUs servers and generator run."""
    group.add_argument("--server-cpus", type=_cpus, metavar="LIST", help="such as 0 or 0,1")
    group.add_argument("--generator-cpus", type=_cpus, metavar="LIST")


def _cpus(text: str) -> frozenset[int]:
    return frozenset(int(number) for number in text.split(","))


def _scenarios(chosen: argparse.Namespace) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in chosen.scenario:
        if name not in known:
            raise LoadError(f"no scenario {name}; there are {', '.join(known)}")
    fields = Load.__dataclass_fields__
    given = {name: value for name, value in vars(chosen).items() if name in fields}
    changes = {name: value for name, value in given.items() if value is not None}
    names = chosen.scenario or known
    return [replace(known[name], load=replace(known[name].load, **changes)) for name in names]


def assignments(words: Sequence[str]) -> dict[str, str]:
    """Read KEY=VALUE words: configuration keys and values in TOML. Raises DaemonError."""
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DaemonError(f"--set {word}: expected KEY=VALUE")
        options[key.strip()] = value.strip()
    return options


def _options(chosen: argparse.Namespace) -> dict[str, str]:
    shape = {"server.workers": str(chosen.workers), "server.threads": str(chosen.threads)}
    return shape | assignments(chosen.set)


def _setup(chosen: argparse.Namespace, options: dict[str, str]) -> Setup:
    def start(load: Load) -> contextlib.AbstractContextManager[Server]:
        if chosen.connect:
            return contextlib.nullcontext(Server(chosen.connect, chosen.pid))
        needed = roomy(options, load.clients)
        return serve(needed, chosen.transport, chosen.server_cpus)

    return Setup(binary=build_loadgen(), start=start, generator_cpus=chosen.generator_cpus)


def _run(setup: Setup, scenario: Scenario, chosen: argparse.Namespace) -> Result:
    rounds: list[Round] = []
    for number in range(1, chosen.rounds + 1):
        title = f"{scenario.name} {number}/{chosen.rounds}"

        def tell(joined: int, title: str = title) -> None:
            show(f"{title}: {joined:,} joined")

        show(title)
        rounds.append(run_round(setup, scenario.load, chosen.seed + number, tell))
    show("")
    return Result(scenario, tuple(rounds))
