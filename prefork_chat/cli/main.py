"""The entry point of the command: which subcommands there are, and how errors become exit codes.

Called by the console script and by `python -m prefork_chat`. An error that an operator can mend
(`PreforkChatError`) is one line on stderr and its own exit code; anything else is a bug and keeps
its traceback. Without a subcommand the help is printed and the exit code is 2, as for wrong usage.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from prefork_chat import __version__
from prefork_chat.cli import check_config, console, ctl, ipc, serve
from prefork_chat.errors import PreforkChatError

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_EXIT_CODE = 2  # as argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (None: the process's own arguments); return its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if "run" not in arguments:
        parser.print_help(sys.stderr)
        return USAGE_EXIT_CODE
    try:
        exit_code: int = arguments.run(arguments)
    except PreforkChatError as error:
        print(f"prefork-chat: {error}", file=sys.stderr)
        return error.exit_code
    return exit_code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands; each sets `run`, a function of the parsed arguments."""
    parser = argparse.ArgumentParser(
        prog="prefork-chat",
        description="A prefork chat daemon that people drive with netcat.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"prefork-chat {__version__}")
    subcommands = parser.add_subparsers(title="commands", metavar="COMMAND")
    serve.add_parser(subcommands)
    ctl.add_parser(subcommands)
    console.add_parser(subcommands)
    check_config.add_parser(subcommands)
    ipc.add_parser(subcommands)
    return parser
