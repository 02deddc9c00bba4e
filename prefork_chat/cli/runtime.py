"""How a command names the daemon that it is about: by its runtime directory or its configuration.

Used by the commands that look on or speak to a running daemon; `serve` decides where it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefork_chat.config import resolve_runtime_dir
from prefork_chat.loading import load

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config` and `--runtime-dir`."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the daemon's configuration file"
    )
    parser.add_argument("--runtime-dir", metavar="DIRECTORY", help="the daemon's runtime directory")


def resolve(arguments: argparse.Namespace) -> Path:
    """Return the directory that is meant; raises ConfigError."""
    directory = arguments.runtime_dir
    overrides = {} if directory is None else {"server.runtime_dir": directory}
    return resolve_runtime_dir(load(arguments.config, overrides))
