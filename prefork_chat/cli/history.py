"""`prefork-chat history`: one's own transcript; `prefork-chat history backup`: the operator's copy.

The arguments only: `terminal.transcript` asks the daemon, `history.backup` copies the file.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.addresses import parse_address
from prefork_chat.cli.send import add_identity
from prefork_chat.client.places import is_person, is_room
from prefork_chat.errors import OperationError, UsageError
from prefork_chat.terminal import identity, transcript

if TYPE_CHECKING:
    import argparse

_BACKUP: Final = "backup"


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "history",
        help="print your own history, or copy the daemon's",
        description="Print what you and others said to each other, oldest first, one line a "
        "message. You are known by your password, or, on the server's Unix socket, by your login. "
        "`history backup FILE` copies the whole database of a daemon, running or not, for its "
        "operator.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action", nargs="*", metavar="backup FILE", help="copy the database to FILE"
    )
    add_identity(parser)
    parser.add_argument("--peer", metavar="NAME", help="only what NAME and you said to each other")
    parser.add_argument("--room", metavar="#ROOM", help="what was said in a room")
    parser.add_argument("--since", metavar="TIME", help="only from this date or time on (UTC)")
    parser.add_argument(
        "--format", choices=tuple(transcript.FORMATS), default="text", help="default: text"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE, for you alone")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="backup: the daemon's configuration file"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print or copy; raises PreforkChatError."""
    match arguments.action:
        case []:
            return _print(arguments)
        case ["backup", target]:
            return _back_up(arguments.config, Path(target))
        case _:
            raise UsageError("expected nothing, or: backup FILE")


def _print(arguments: argparse.Namespace) -> int:
    peer, room = arguments.peer or "", arguments.room or ""
    if peer and room:
        raise UsageError("--peer and --room: one of them at a time")
    if (peer and not is_person(peer)) or (room and not is_room(room)):
        raise UsageError(f"{peer or room!r} is no name of a person, or of a #room")
    since = transcript.parse_since(arguments.since) if arguments.since else ""
    teller = transcript.Teller(
        parse_address(arguments.server),
        identity.choose_name(arguments.name),
        identity.read_password(arguments.password_file, os.environ),
    )
    with teller:
        lines = teller.lines(peer or room, since)
    told = transcript.told(lines, arguments.format)
    if arguments.output:
        with transcript.open_private(arguments.output) as file:
            file.writelines(told)
    else:
        sys.stdout.writelines(told)
    return 0


def _back_up(configuration: Path | None, target: Path) -> int:
    # Here: who prints a transcript need not load them.
    from prefork_chat.config import resolve_state_dir  # noqa: PLC0415
    from prefork_chat.history.backup import back_up  # noqa: PLC0415
    from prefork_chat.history.schema import FILE_NAME  # noqa: PLC0415
    from prefork_chat.loading import load  # noqa: PLC0415

    source = resolve_state_dir(load(configuration)) / FILE_NAME
    try:
        size = back_up(source, target)
    except (sqlite3.Error, OSError) as error:
        raise OperationError(f"{source}: {error}") from error
    print(f"{target}: {size / 1e6:.1f} MB")
    return 0
