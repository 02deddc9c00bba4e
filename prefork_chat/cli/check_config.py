"""`prefork-chat check-config`: says whether a configuration file is right, or prints an example.

Run by people and by deployment scripts before a start: it opens nothing but the file. Exit code 0
if the daemon would accept the file, 2 with the key's path if not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefork_chat.cli import options
from prefork_chat.loading import load

if TYPE_CHECKING:
    import argparse


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "check-config",
        help="say whether a configuration file is right",
        description="Say whether the daemon would accept a configuration file.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the file to check")
    what.add_argument(
        "--example", action="store_true", help="print a commented file with all options"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the example, or the verdict; raises ConfigError."""
    if arguments.example:
        print(options.example_file(), end="")
        return 0
    load(arguments.file)
    print(f"{arguments.file}: ok")
    return 0
