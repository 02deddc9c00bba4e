"""`prefork-chat board`: shows the board of a running daemon, and sets the notice of the day.

The board is read as any program may read it, from shared memory, without asking the daemon; whoever
may read it needs not be the operator. `--set-notice` asks the daemon, which keeps the notice when
it is restarted. `--header` prints the C header that describes the board. Exit code 0: shown or set;
1: refused; 4: there is no board; 6: no permission.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat.cli import runtime
from prefork_chat.errors import OperationError

if TYPE_CHECKING:
    import argparse

    from prefork_chat.board.layout import Content, Row, Text

_WATCH_SECONDS: Final = 1.0
_CLEAR: Final = "\x1b[H\x1b[J"  # of a terminal: the next picture takes the place of the last
_STALE_SECONDS: Final = 5.0
_NANOSECONDS: Final = 1e9


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = subcommands.add_parser(
        "board",
        help="show the daemon's board in shared memory, or set the notice of the day",
        description="Show what the daemon shows to all programs of this machine.",
        epilog="Exit code 0: shown or set; 1: refused; 3: no daemon to set it; 4: no board; "
        "6: no permission.",
        allow_abbrev=False,
    )
    runtime.add_arguments(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--watch", action="store_true", help="show it again each second")
    what.add_argument("--set-notice", metavar="TEXT", help="set the notice; empty: none")
    what.add_argument("--header", action="store_true", help="print the C header")
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show or set; raises PreforkChatError."""
    # Here, so that the other subcommands start without loading all that.
    from prefork_chat.board import layout  # noqa: PLC0415
    from prefork_chat.board.board import Board  # noqa: PLC0415

    if arguments.header:
        print(Path(layout.__file__).with_name("board.h").read_text(encoding="utf-8"), end="")
        return 0
    directory = runtime.resolve(arguments)
    if arguments.set_notice is not None:
        from prefork_chat.bulletin import complaint  # noqa: PLC0415
        from prefork_chat.cli.ctl import ask  # noqa: PLC0415
        from prefork_chat.control import Post  # noqa: PLC0415

        if problem := complaint("notice", arguments.set_notice):
            raise OperationError(problem)
        print(ask(directory, Post("notice", arguments.set_notice))[1])
        return 0
    before = _CLEAR if arguments.watch and not arguments.json and sys.stdout.isatty() else ""
    with Board.open_to_read(directory) as board:
        try:
            while True:
                content = board.read()
                shown = _as_json(content) if arguments.json else "\n".join(_lines(content))
                print(f"{before}{shown}", flush=True)
                if not arguments.watch:
                    return 0
                time.sleep(_WATCH_SECONDS)
        except (KeyboardInterrupt, BrokenPipeError):
            sys.stderr.close()  # else Python complains that it cannot flush
            return 0


def _as_json(content: Content) -> str:
    return msgspec.json.encode(content).decode()


def _lines(content: Content) -> list[str]:
    from prefork_chat.board.layout import STATES  # noqa: PLC0415

    figures = content.figures
    age = time.time() - figures.updated_ns / _NANOSECONDS
    stale = f"   (old: {age:.0f} s)" if age > _STALE_SECONDS else ""
    now_ns = time.monotonic_ns()
    clients = f"{figures.clients:,}, {figures.names:,} with a name; {figures.rooms:,} rooms"
    so_far = (
        f"{figures.accepted:,} connections, {figures.lines:,} lines, "
        f"{figures.delivered:,} messages delivered, {figures.refused:,} refused"
    )
    return [
        f"prefork-chat, pid {figures.supervisor_pid}, at {_clock(figures.updated_ns)}{stale}",
        f"notice     {_say(content.notice)}",
        f"broadcast  {_say(content.broadcast)}",
        f"clients    {clients}",
        f"so far     {so_far}",
        *(
            f"worker {number:<3} {_worker(row, STATES[row.state], now_ns)}"
            for number, row in enumerate(content.workers)
            if row.generation
        ),
    ]


def _worker(row: Row, state: str, now_ns: int) -> str:
    if not row.heartbeat_ns:  # none yet, or it is gone
        return f"{state}, generation {row.generation}"
    return (
        f"{state}, pid {row.pid}, generation {row.generation}, {row.clients:,} clients, "
        f"heartbeat {max(0.0, (now_ns - row.heartbeat_ns) / _NANOSECONDS):.1f} s ago"
    )


def _say(text: Text) -> str:
    return f"{text.text}   ({_clock(text.said_ns)})" if text.text else "-"


def _clock(nanoseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds / _NANOSECONDS))
