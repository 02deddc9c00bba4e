"""`prefork-chat send`: says something to somebody, for scripts; 0 only if it was delivered.

The arguments only; `terminal.scripts` does it. It imports no more than that needs, because a
script's loop waits for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefork_chat.addresses import DEFAULT_LISTEN, parse_address
from prefork_chat.client.places import is_person, is_room
from prefork_chat.errors import UsageError
from prefork_chat.terminal import identity, scripts

if TYPE_CHECKING:
    import argparse


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "send",
        help="send a message from a script",
        description="Send a message and wait until it is delivered. With the text `-` every line "
        "of standard input is a message.",
        epilog="Exit code 0: all was delivered (or stored for somebody who is away); 1: not; "
        "2: wrong usage; 3: there is no server.",
        allow_abbrev=False,
    )
    parser.add_argument("dest", metavar="DEST", help="a name, or a #room")
    parser.add_argument("text", metavar="TEXT", nargs="+", help="the message; - reads lines")
    add_identity(parser)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="how long to wait for the answer (default: %(default)g)",
    )
    parser.set_defaults(run=run)


def add_identity(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say where the server is and who we are."""
    parser.add_argument(
        "--server",
        metavar="ADDRESS",
        default=DEFAULT_LISTEN,
        help="HOST:PORT or unix:PATH (default: %(default)s)",
    )
    parser.add_argument("--name", help="the name to use (default: your login name)")
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="a file with the name's password; else it is taken from the environment, "
        f"{identity.PASSWORD_VARIABLE}",
    )


def run(arguments: argparse.Namespace) -> int:
    """Send; raises PreforkChatError."""
    dest: str = arguments.dest
    if not is_person(dest) and not is_room(dest):
        raise UsageError(f"{dest!r} is neither a name nor a #room")
    if not "".join(arguments.text).strip():
        raise UsageError("the message is empty: nothing was sent")
    carrier = scripts.begin(
        parse_address(arguments.server),
        identity.choose_name(arguments.name),
        identity.read_password(arguments.password_file, os.environ),
        [dest] if is_room(dest) else [],
    )
    lines = None if arguments.text == ["-"] else [" ".join(arguments.text)]
    return scripts.send(carrier, dest, lines, arguments.timeout)
