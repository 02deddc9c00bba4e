"""How an option of the configuration looks on the command line and in the example file.

Called by `serve` and `check_config`. Everything here is derived from `options.options()`, so help,
flags and example cannot differ from what `loading.load` accepts. An option of the table `server` is
a plain flag (`server.workers`: `--workers`); others carry their table's name (`--log-level`).
"""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any, Final

from prefork_chat.config import Config, IngressConfig
from prefork_chat.options import Option, ingress_options, options

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT_COLUMNS: Final = 98
_UNITS: Final = {"seconds": "SECONDS", "bytes": "BYTES"}
_INGRESS_EXAMPLE: Final = {"kind": "fifo", "path": "/run/prefork-chat/in", "name": "cron"}
_EXAMPLE_HEAD: Final = """\
# Configuration of prefork-chat. Every option is here, with its default value behind a '#': remove
# the '#' and change the value. `prefork-chat check-config FILE` says whether a file is right.
"""


def flag(option: Option) -> str:
    """Return the option's flag, such as `--workers` or `--log-level`."""
    key = option.key if option.table == "server" else f"{option.table}-{option.key}"
    return "--" + key.replace("_", "-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser one flag for each option, in one group for each table."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for option in options():
        if option.table not in groups:
            groups[option.table] = parser.add_argument_group(
                option.table, getattr(Config(), option.table).__doc__
            )
        groups[option.table].add_argument(
            flag(option),
            dest=option.key_path,
            default=argparse.SUPPRESS,
            help=_help(option).replace("%", "%%"),
            **_how_to_read(option),
        )


def overrides(arguments: argparse.Namespace) -> dict[str, object]:
    """Return what was given on the command line, by key path: what `loading.load` wants."""
    given = vars(arguments)
    return {o.key_path: given[o.key_path] for o in options() if o.key_path in given}


def example_file() -> str:
    """Return a TOML file that shows every option, commented out, with its meaning and default."""
    return _EXAMPLE_HEAD + "\n".join([*_example_lines(), *_ingress_lines()]) + "\n"


def _example_lines() -> Iterator[str]:
    table = ""
    for option in options():
        if option.table != table:
            table = option.table
            yield f"\n# {getattr(Config(), table).__doc__}"
            yield f"[{table}]"
        yield ""
        yield from textwrap.wrap(
            _describe(option), _COMMENT_COLUMNS, initial_indent="# ", subsequent_indent="# "
        )
        yield f"#{option.key} = {_toml(option.default)}"


def _ingress_lines() -> Iterator[str]:
    """Show what there may be any number of."""
    yield f"\n# {IngressConfig.__doc__} Any number of these."
    yield "#[[ingress]]"
    for option in ingress_options():
        yield ""
        yield from textwrap.wrap(
            _describe(option), _COMMENT_COLUMNS, initial_indent="# ", subsequent_indent="# "
        )
        default = _INGRESS_EXAMPLE.get(option.key, option.default)
        yield f"#{option.key} = {_toml(default)}"


def _how_to_read(option: Option) -> dict[str, Any]:
    """Return what `add_argument` must know; ranges are left to `loading.load`."""
    unit = option.key.rpartition("_")[2]
    match option.default:
        case bool():
            return {"action": argparse.BooleanOptionalAction}
        case int():
            return {"type": int, "metavar": _UNITS.get(unit, "N")}
        case float():
            return {"type": float, "metavar": _UNITS.get(unit, "X")}
        case tuple():
            return {"action": "append", "metavar": "ADDRESS"}
        case _ if option.choices:
            return {"choices": option.choices}
        case _:
            return {"metavar": "TEXT"}


def _help(option: Option) -> str:
    match option.default:
        case _ if option.choices:
            return f"{option.description} (default: {option.default})"
        case tuple():
            return f"{_describe(option)} May be given several times. (default: {option.default[0]})"
        case "":
            return _describe(option)
        case bool():
            return f"{_describe(option)} (default: {'on' if option.default else 'off'})"
        case default:
            return f"{_describe(option)} (default: {default})"


def _describe(option: Option) -> str:
    extent = option.bounds or ", ".join(option.choices)
    return f"{option.description} [{extent}]" if extent else option.description


def _toml(value: object) -> str:
    """Write a default in TOML; for strings, numbers, booleans and lists JSON is valid TOML."""
    return json.dumps(value)
