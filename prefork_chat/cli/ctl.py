"""`prefork-chat ctl`: asks or tells the daemon that runs in a runtime directory.

Finds the daemon as `serve` would name it (`--runtime-dir`, `--config`), connects to its admin
socket, sends one request and shows the answer: aligned columns for people, one JSON array with
`--json`. What takes its time is waited for. Exit code 0: done; 1: refused or failed, with a
sentence; 3: no daemon there.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import msgspec

from prefork_chat import control
from prefork_chat.cli import runtime
from prefork_chat.control import (
    Client,
    Clients,
    Done,
    Drain,
    Failed,
    Recycle,
    Reload,
    Stop,
    Upgrade,
    Worker,
    Workers,
)
from prefork_chat.errors import OperationError
from prefork_chat.observing.figures import duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from prefork_chat.control import Request

_CREDENTIALS: Final = struct.Struct("iII")  # unix(7): pid, uid, gid
_HEADINGS: Final = {"p_id": "WORKER", "t_id": "LOOP", "up_seconds": "UP"}
_LISTS: Final = ("workers", "clients")
_SIMPLE: Final = (
    ("workers", "list the workers", Workers),
    ("clients", "list the clients", Clients),
    ("reload", "load the configuration and replace all workers, one at a time", Reload),
    ("upgrade", "become the program that is installed now; nobody is disconnected", Upgrade),
    ("drain", "accept nobody more, and end when all clients have left", Drain),
    ("stop", "end the daemon in order; a second time: at once", Stop),
)


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its own."""
    parser = subcommands.add_parser(
        "ctl",
        help="ask or tell a running daemon",
        description="Ask or tell the daemon that runs in a runtime directory.",
        epilog="Exit code 0: done; 1: refused or failed; 3: no daemon runs there.",
        allow_abbrev=False,
    )
    runtime.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    orders = parser.add_subparsers(title="orders", metavar="ORDER", dest="order", required=True)
    for name, text, request in _SIMPLE:
        order = orders.add_parser(name, help=text, description=text, allow_abbrev=False)
        order.set_defaults(request=lambda _, request=request: request())
    text = "replace one worker; its clients stay"
    recycle = orders.add_parser("recycle", help=text, description=text, allow_abbrev=False)
    recycle.add_argument("p_id", metavar="P_ID", type=int, help="the worker's number")
    recycle.set_defaults(request=lambda arguments: Recycle(arguments.p_id))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask and show; raises ConfigError, NotRunning or OperationError."""
    directory = runtime.resolve(arguments)
    found, text = ask(directory, arguments.request(arguments))
    rows = [msgspec.to_builtins(each) for each in found]
    for row in rows:
        del row["kind"]
    if arguments.json:
        is_list = arguments.order in _LISTS
        print(json.dumps(rows if is_list else {"done": text}))
    else:
        print("\n".join([*table(rows), text]))
    return 0


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return aligned lines, headings first; numbers stand on the right. Nothing for no rows."""
    if not rows:
        return []
    columns = [
        [_HEADINGS.get(key, key.upper()), *(_show(key, row[key]) for row in rows)]
        for key in rows[0]
    ]
    widths = [max(map(len, column)) for column in columns]
    to_right = [isinstance(value, int | float) for value in rows[0].values()]
    return [
        "  ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, to_right, strict=True)
        ).rstrip()
        for line in zip(*columns, strict=True)
    ]


def _show(key: str, value: object) -> str:
    if key == "up_seconds" and isinstance(value, float):
        return duration(value)
    return "-" if value == "" else str(value)


def ask(directory: Path, request: Request) -> tuple[list[Worker | Client], str]:
    """Send the request to the daemon in `directory`; return what it lists, and what it says last.

    Waits as long as it takes. Raises NotRunning if there is no daemon, OperationError if it cannot
    be asked, refuses or fails.
    """
    found: list[Worker | Client] = []
    with control.connect(directory) as daemon, ExitStack() as undo:
        process = _open_process(daemon)
        if process is not None:
            undo.callback(os.close, process)
        try:
            daemon.sendall(control.encode(request))
            for line in undo.enter_context(daemon.makefile("rb")):
                match control.decode_answer(line):
                    case Done(text):
                        return found, text
                    case Failed(text):
                        raise OperationError(text)
                    case Worker() | Client() as answer:
                        found.append(answer)
                    case strange:
                        raise OperationError(f"not understood: {strange}")
        except OSError as error:
            raise OperationError(f"the daemon has hung up: {error.strerror}") from error
        if not isinstance(request, Stop):
            raise OperationError("the daemon has hung up")
        if process is not None:
            select.select([process], [], [])
        return found, "the daemon has ended"


def _open_process(daemon: socket.socket) -> int | None:
    """Return a pidfd of the supervisor; None if it is in another pid namespace, or gone."""
    size = _CREDENTIALS.size
    pid, _, _ = _CREDENTIALS.unpack(daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    try:
        return os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
