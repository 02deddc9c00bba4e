"""`prefork-chat top`: shows once a second how the daemon is, as top(1) does for all processes.

Attaches to the daemon that runs in a runtime directory and looks at it from then on by itself
(`observing`): no work for the daemon, and it goes on while workers are replaced. On a terminal it
draws with curses; where that cannot be (TERM=dumb, a pipe) it prints one picture after the other.
`--once` prints one, `--json` an object. Exit code 0: ended by `q` or Ctrl-C; 3: no daemon there, or
it has ended meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.cli import runtime

if TYPE_CHECKING:
    import argparse

_DEFAULT_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.1


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "top",
        help="watch workers, load and memory of a running daemon",
        description="Watch the daemon that runs in a runtime directory: h explains, q quits.",
        epilog="Exit code 0: you have quit; 3: no daemon runs there, or it has ended.",
        allow_abbrev=False,
    )
    runtime.add_arguments(parser)
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=float,
        default=_DEFAULT_SECONDS,
        help="look so often, and take rates over so long (default: %(default)g)",
    )
    parser.add_argument("--once", action="store_true", help="print one picture")
    parser.add_argument("--json", action="store_true", help="print one as a JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show the daemon; raises ConfigError, NotRunning or OperationError."""
    directory = runtime.resolve(arguments)
    seconds = max(_SHORTEST_SECONDS, arguments.interval)
    # Here, so that the other subcommands start without loading all that.
    from prefork_chat.cli import watching  # noqa: PLC0415

    with watching.Watch(directory, seconds) as watch:
        try:
            if arguments.json:
                print(watch.as_json())
            elif arguments.once:
                print(watch.picture())
            elif watching.can_draw():
                watch.draw()
            else:
                watch.print_on()
        except KeyboardInterrupt:
            pass
    return 0
