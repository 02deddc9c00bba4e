"""`prefork-chat ipc`: hands a file from process to process by six mechanisms, and compares them.

Only the arguments are described here. What a subcommand needs is imported when it runs: the daemon
starts from the same command, and shall not carry it. Exit codes beside those of `errors`: 4 no
server, 5 only a dead server's leftovers, 6 not permitted, 7 the other side died, 8 time is over;
128 + N after signal N.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from prefork_chat.channels import names


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its own ones."""
    parser = subcommands.add_parser(
        "ipc",
        help="hand data to another process of this machine by pipe, queue, shared memory ...",
        description="Hand data to another process of this machine, by any of six mechanisms.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_read(commands)
    _add_list(commands)
    _add_clean(commands)
    _add_bench(commands)


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="send a file, or standard input, to the process that reads it",
        description="Send a file, or standard input, to the one process that reads it. "
        "Without --key a pipe is standard output: ipc serve --via pipe FILE | ipc read --via pipe",
        allow_abbrev=False,
    )
    _add_channel(parser, "how long to wait for the reader (default: for ever)", None)
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="default: - (stdin)")
    parser.set_defaults(run=_serve)


def _add_read(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "read",
        help="write to standard output what another process serves",
        description="Write to standard output, byte for byte, what another process serves.",
        allow_abbrev=False,
    )
    _add_channel(parser, "how long to wait for the server (default: not at all)", 0.0)
    parser.set_defaults(run=_read)


def _add_list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "list",
        help="show your channels, and what killed servers left",
        description="Show your channels, and what servers left that were killed.",
        allow_abbrev=False,
    )
    _add_ledger(parser)
    parser.set_defaults(run=_list)


def _add_clean(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "clean",
        help="remove what killed servers left, and nothing else",
        description="Remove what servers left that were killed. Nothing else is touched.",
        allow_abbrev=False,
    )
    _add_ledger(parser)
    parser.set_defaults(run=_clean)


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure throughput and round trips of all mechanisms",
        description="Measure throughput and round trips between two processes of this machine, "
        "for messages of 64 B, 1 KiB and 64 KiB.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--via",
        action="append",
        choices=names.ALL,
        metavar="MECHANISM",
        help="measure this one only; may be given several times",
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=0.5,
        metavar="SECONDS",
        help="time for each figure (default: 0.5; there are 36 figures)",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.svg", help="draw a picture, too (needs matplotlib)"
    )
    _add_ledger(parser)
    parser.set_defaults(run=_bench)


def _add_channel(parser: argparse.ArgumentParser, wait: str, default_wait: float | None) -> None:
    parser.add_argument(
        "--via",
        required=True,
        choices=names.ALL,
        metavar="MECHANISM",
        help=", ".join(names.ALL),
    )
    parser.add_argument(
        "--key",
        type=Path,
        metavar="PATH",
        help="an existing file whose path is the channel's name, for both sides",
    )
    parser.add_argument("--wait", type=_seconds, default=default_wait, metavar="SECONDS", help=wait)
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")
    _add_ledger(parser)


def _add_ledger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ledger",
        type=Path,
        metavar="DIR",
        help="where it is noted who serves what (default: $XDG_RUNTIME_DIR/prefork-chat-ipc, "
        "else /tmp/prefork-chat-ipc-UID)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text}") from None
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"not between 0 and 1e9: {text}")
    return value


def _positive(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _serve(arguments: argparse.Namespace) -> int:
    from prefork_chat.cli import ipc_transfer  # noqa: PLC0415 - see the module

    return ipc_transfer.serve(arguments)


def _read(arguments: argparse.Namespace) -> int:
    from prefork_chat.cli import ipc_transfer  # noqa: PLC0415

    return ipc_transfer.read(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from prefork_chat.cli import ipc_leftovers  # noqa: PLC0415

    return ipc_leftovers.show(arguments)


def _clean(arguments: argparse.Namespace) -> int:
    from prefork_chat.cli import ipc_leftovers  # noqa: PLC0415

    return ipc_leftovers.clean(arguments)


def _bench(arguments: argparse.Namespace) -> int:
    from prefork_chat.cli import ipc_bench  # noqa: PLC0415

    return ipc_bench.run(arguments)
