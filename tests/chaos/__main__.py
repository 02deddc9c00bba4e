"""`python -m tests.chaos`: storms and crash points at full length, for people and for CI.

Exit codes: 0 all was exact; 1 something was not; 2 it could not be run.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.crash_points import SHAPES, Round
from tests.chaos.storms import STORMS, rage
from tests.chaos.traps import TRAPS, NoTrapError
from tests.harness.daemon import daemons

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    match chosen.command:
        case "storm":
            return _storm(chosen)
        case "crash-points":
            return _crash_points(chosen)
        case _:
            parser.print_help()
            return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command")
    storm = commands.add_parser("storm", help="let storms rage over a crowd at full speed")
    names = "; ".join(f"{name}: {storm.what}" for name, storm in STORMS.items())
    storm.add_argument("storm", nargs="*", choices=[*STORMS, []], help=f"{names} (default: all)")
    storm.add_argument("--seconds", type=float, default=60, help="of each (%(default)s)")
    storm.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    points = commands.add_parser("crash-points", help="kill a worker wherever it can be")
    points.add_argument("--trap", choices=list(TRAPS), default="calls", help="default: %(default)s")
    points.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    points.add_argument("--most", type=int, default=1000, help="visits of a place (%(default)s)")
    points.add_argument("--sample", type=int, help="visit only so many points of each shape")
    points.add_argument(
        "--shape", type=_shape, nargs="*", default=list(SHAPES), metavar="WORKERS,THREADS"
    )
    return parser


def _shape(text: str) -> tuple[int, int]:
    workers, _, threads = text.partition(",")
    return int(workers), int(threads)


def _crash_points(chosen: argparse.Namespace) -> int:
    are_exact = True
    for shape in chosen.shape:
        with tempfile.TemporaryDirectory() as folder, daemons(Path(folder)) as start_daemon:
            try:
                trap = TRAPS[chosen.trap](shape[1], Path(folder), random.Random(chosen.seed))
                with Round(start_daemon, shape, trap) as points:
                    visits = (
                        points.sample(chosen.sample)
                        if chosen.sample
                        else points.exhaust(chosen.most)
                    )
            except NoTrapError as error:
                print(f"crash points: {error}", file=sys.stderr)
                return 2
        print(visits, flush=True)
        are_exact = are_exact and not visits.wrong
    return 0 if are_exact else 1


def _storm(chosen: argparse.Namespace) -> int:
    are_exact = True
    for name in chosen.storm or STORMS:
        with tempfile.TemporaryDirectory() as folder, daemons(Path(folder)) as start_daemon:
            outcome = rage(start_daemon, Path(folder), name, chosen.seconds, chosen.seed)
            print(outcome, flush=True)
        are_exact = are_exact and not (outcome.account.troubles or outcome.leaks)
    return 0 if are_exact else 1


if __name__ == "__main__":
    sys.exit(main())
