"""`prefork-chat ipc list` and `ipc clean`: this user's channels, and what killed servers left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from prefork_chat.channels import mechanisms

if TYPE_CHECKING:
    import argparse

_ROW: Final = "{:<14} {:<10} {:>8} {:>8}  {:<9} {}"


def show(arguments: argparse.Namespace) -> int:
    """Print a table of channels; nothing on stdout if there are none."""
    listed = list(mechanisms.list_channels(arguments.ledger))
    if not listed:
        print("no channels", file=sys.stderr)
        return 0
    print(_ROW.format("MECHANISM", "KEY", "SERVER", "READER", "STATE", "PATH"))
    for channel in listed:
        print(
            _ROW.format(
                channel.mechanism,
                f"0x{channel.number:08x}",
                channel.server_pid or "-",
                channel.reader_pid or "-",
                _state(channel),
                channel.key_path,
            )
        )
    return 0


def clean(arguments: argparse.Namespace) -> int:
    """Remove leftovers, and say so; the exit code is 1 if something could not be removed."""
    exit_code = 0
    for channel, error in mechanisms.clean(arguments.ledger):
        what = f"{channel.mechanism} channel 0x{channel.number:08x} of {channel.key_path}"
        if error is None:
            print(f"removed: {what}, left by pid {channel.server_pid}")
        else:
            print(f"prefork-chat: kept: {what}: {error}", file=sys.stderr)
            exit_code = 1
    return exit_code


def _state(channel: mechanisms.Listed) -> str:
    if channel.is_leftover:
        return "left over"
    return "in use" if channel.reader_pid else "waiting"
