"""`prefork-chat listen`: prints what comes, for scripts: a line or a JSON object for each message.

The arguments only; `terminal.scripts` does it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from prefork_chat.addresses import parse_address
from prefork_chat.cli.send import add_identity
from prefork_chat.client.places import is_room
from prefork_chat.errors import UsageError
from prefork_chat.terminal import identity, scripts

if TYPE_CHECKING:
    import argparse


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "listen",
        help="print what comes, for scripts",
        description="Print every message that comes, until a signal ends it. A connection that "
        "breaks is made again.",
        epilog="Exit code 0: ended by a signal or its reader; 1: not let in; 2: wrong usage; "
        "3: there is no server.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each message")
    parser.add_argument(
        "--room", metavar="#ROOM", action="append", default=[], help="a room to enter; repeatable"
    )
    add_identity(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Listen; raises PreforkChatError."""
    for room in arguments.room:
        if not is_room(room):
            raise UsageError(f"--room: {room!r} is no #room")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    carrier = scripts.begin(
        parse_address(arguments.server),
        identity.choose_name(arguments.name),
        identity.read_password(arguments.password_file, os.environ),
        arguments.room,
    )
    return scripts.listen(carrier, as_json=arguments.json)
