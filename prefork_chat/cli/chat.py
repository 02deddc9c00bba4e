"""`prefork-chat chat`: the client for people, on the full screen or in the terminal's scrollback.

Which screen it is depends on the terminal, and is decided before anything of prompt_toolkit is
imported: it is an optional part, slow to load, and of no use where there is no real terminal.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from prefork_chat.addresses import DEFAULT_LISTEN, parse_address
from prefork_chat.errors import UsageError
from prefork_chat.terminal import identity

if TYPE_CHECKING:
    import argparse


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "chat",
        help="chat, in this terminal",
        description="Chat in this terminal; /help lists what you can do.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "server",
        metavar="ADDRESS",
        nargs="?",
        default=DEFAULT_LISTEN,
        help="HOST:PORT or unix:PATH (default: %(default)s)",
    )
    parser.add_argument("--name", help="the name to use (default: your login name)")
    parser.add_argument(
        "--plain", action="store_true", help="no full screen: keep the terminal's own scrollback"
    )
    parser.add_argument(
        "--room", metavar="#ROOM", action="append", default=[], help="a room to enter; repeatable"
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="a file with the name's password; else it is taken from the environment, "
        f"{identity.PASSWORD_VARIABLE}, or asked for",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Chat until the person leaves; raises PreforkChatError."""
    from prefork_chat.terminal import people  # noqa: PLC0415 - so that --help is quick

    address = parse_address(arguments.server)
    carrier = people.begin(
        address,
        identity.choose_name(arguments.name),
        identity.read_password(arguments.password_file, os.environ),
        arguments.room,
    )
    if not has_terminal():
        from prefork_chat.terminal import lines  # noqa: PLC0415

        return lines.run(carrier)
    if find_spec("prompt_toolkit") is None:
        raise UsageError(
            "chat needs prompt_toolkit: pip install 'prefork-chat[client]'"
            " (or, without it: TERM=dumb prefork-chat chat)"
        )
    if arguments.plain:
        from prefork_chat.terminal import plain  # noqa: PLC0415

        return plain.run(carrier)
    from prefork_chat.terminal import fullscreen  # noqa: PLC0415

    return fullscreen.run(carrier)


def has_terminal() -> bool:
    """Say whether there is a terminal that can do more than show lines."""
    is_dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return not is_dumb and sys.stdin.isatty() and sys.stdout.isatty()
