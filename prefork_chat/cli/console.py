"""`prefork-chat console`: the operator looks on, and speaks to everybody.

On a terminal a prompt with the live view above it; `--follow`, or without a terminal, plain lines.
Exit code 0: ended by the operator, or all input was carried out; 1: something was not done, or the
daemon refused; 3: no daemon there, or it has gone and not come back; 130: Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

from prefork_chat.cli import runtime
from prefork_chat.cli.serve import open_standard_files

if TYPE_CHECKING:
    import argparse
    from types import FrameType

_WAIT_SECONDS: Final = 10.0
_INTERRUPTED: Final = 128 + signal.SIGINT
_PIPE_BROKEN: Final = 128 + signal.SIGPIPE


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "console",
        help="look on, and speak to everybody",
        description="Look on at a running daemon: who comes and goes, who writes to whom. What you "
        "type goes to everybody; /help lists what else you can do.",
        epilog="Without a terminal, lines of standard input are carried out. Exit code 0: all was "
        "done; 1: something was not; 3: no daemon runs there.",
        allow_abbrev=False,
    )
    runtime.add_arguments(parser)
    parser.add_argument(
        "--follow", action="store_true", help="print what happens as plain lines, until Ctrl-C"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=_WAIT_SECONDS,
        help="how long to look for a daemon that has gone to come back (default: 10)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Be a console; return the exit code. Raises ConfigError, NotRunning or OperationError."""
    # Here, so that the other subcommands start without loading it.
    from prefork_chat.console.console import Console, Manner  # noqa: PLC0415
    from prefork_chat.console.screen import Streams, Terminal, is_terminal  # noqa: PLC0415

    open_standard_files()
    directory = runtime.resolve(arguments)
    is_at_terminal = is_terminal() and not arguments.follow
    manner = Manner(
        looks_on=is_at_terminal or arguments.follow,
        lasts=arguments.follow,
        wait_seconds=arguments.wait,
    )
    console = Console(directory, manner)
    try:
        if not is_at_terminal:
            console.run(Streams())
        else:
            with Terminal(console.complete) as terminal:
                signal.signal(signal.SIGTERM, _end)  # not without giving the terminal back
                signal.signal(signal.SIGHUP, _end)
                signal.signal(signal.SIGCONT, lambda *_: terminal.take())
                signal.signal(signal.SIGWINCH, lambda *_: terminal.show(()))
                console.run(terminal)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # nobody reads: nothing is to be flushed at the end
        return _PIPE_BROKEN
    finally:
        console.close()
    return int(console.has_failed)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
