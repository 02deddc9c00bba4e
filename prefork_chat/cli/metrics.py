"""`prefork-chat metrics`: prints how the daemon is in the text format of Prometheus.

For a cron job, the textfile collector of node_exporter, or a look; the daemon itself serves the
same over HTTP if it is told to. Exit code 0: printed; 3: no daemon there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.cli import runtime

if TYPE_CHECKING:
    import argparse


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "metrics",
        help="print a running daemon's metrics for Prometheus",
        description="Print the metrics of the daemon that runs in a runtime directory, "
        "in the text format of Prometheus.",
        epilog="Exit code 0: printed; 3: no daemon runs there.",
        allow_abbrev=False,
    )
    runtime.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print; raises ConfigError, NotRunning or OperationError."""
    directory = runtime.resolve(arguments)
    # Here, so that the other subcommands start without loading all that.
    from prefork_chat.attachment import ATTENDANTS, PAIRS, attach  # noqa: PLC0415
    from prefork_chat.observing.exposition import expose  # noqa: PLC0415
    from prefork_chat.observing.snapshot import Observer  # noqa: PLC0415

    with attach(directory, ATTENDANTS, PAIRS) as attached:
        print(expose(Observer.at(attached).take(), attached.daemon.version), end="")
    return 0
