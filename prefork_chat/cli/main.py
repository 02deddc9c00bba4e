"""The entry point of the command: which subcommands there are, and how errors become exit codes.

Called by the console script and by `python -m prefork_chat`. Only the module of the subcommand that
was asked for is imported, so that a command in somebody's shell loop does not wait for the modules
of all others. An error that an operator can mend (`PreforkChatError`) is one line on stderr and its
own exit code; anything else is a bug and keeps its traceback. Without a subcommand the help is
printed and the exit code is 2, as for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from prefork_chat import __version__
from prefork_chat.errors import PreforkChatError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_EXIT_CODE: Final = 2  # as argparse

_COMMANDS: Final = (
    "serve",
    "chat",
    "send",
    "listen",
    "history",
    "ctl",
    "top",
    "metrics",
    "console",
    "board",
    "check-config",
    "ipc",
)
"""In the order of the help; each has a module of its name here, with a function `add_parser`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (None: the process's own arguments); return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    parser = build_parser(words[0] if words else "")
    arguments = parser.parse_args(words)
    if "run" not in arguments:
        parser.print_help(sys.stderr)
        return USAGE_EXIT_CODE
    try:
        exit_code: int = arguments.run(arguments)
    except PreforkChatError as error:
        print(f"prefork-chat: {error}", file=sys.stderr)
        return error.exit_code
    return exit_code


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of one subcommand, or of all if there is no such `command`.

    Each sets `run`, a function of the parsed arguments.
    """
    parser = argparse.ArgumentParser(
        prog="prefork-chat",
        description="A prefork chat daemon that people drive with netcat.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"prefork-chat {__version__}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name in (command,) if command in _COMMANDS else _COMMANDS:
        import_module(f"prefork_chat.cli.{name.replace('-', '_')}").add_parser(subcommands)
    return parser
