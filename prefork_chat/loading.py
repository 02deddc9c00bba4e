"""How a configuration is read: a file, what the command line says over it, and every check.

Called by the command before anything is forked, and by the supervisor when it reloads. Reads the
file; opens nothing else.

Wrong input raises `ConfigError`, which names the source and the key's path:
`/etc/prefork-chat.toml: server.workers: expected int >= 1`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from prefork_chat.addresses import Address, parse_address
from prefork_chat.config import Config
from prefork_chat.errors import ConfigError
from prefork_chat.options import ingress_options, options

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from prefork_chat.options import Option

COMMAND_LINE: Final = "command line"


def load(path: Path | None, overrides: Mapping[str, object] | None = None) -> Config:
    """Read the file (None: defaults alone), lay `overrides` over it, check everything.

    `overrides`: values by key path, `{"server.workers": 4}`. Raises ConfigError.
    """
    tables: dict[str, Any] = {} if path is None else _read_toml(path)
    config = _convert(tables, "defaults" if path is None else str(path))
    if not overrides:
        return config
    for key_path, value in overrides.items():
        section, _, key = key_path.partition(".")
        tables.setdefault(section, {})[key] = value
    return _convert(tables, COMMAND_LINE)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def _convert(tables: Mapping[str, Any], source: str) -> Config:
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error))}") from error
    for key_path, problem in _contradictions(config):
        raise ConfigError(f"{source}: {key_path}: {problem}")
    return config


def _contradictions(config: Config) -> list[tuple[str, str]]:
    """Return (key path, problem) of what types and ranges cannot tell."""
    found: list[tuple[str, str]] = []
    seen: set[Address] = set()
    for index, text in enumerate(config.server.listen):
        try:
            address = parse_address(text)
        except ConfigError as error:
            found.append((f"server.listen[{index}]", str(error)))
            continue
        if address in seen and (address.family == "unix" or address.port != 0):
            found.append((f"server.listen[{index}]", f"{text!r} is listed twice"))
        seen.add(address)
    if config.respawn.backoff_max_seconds < config.respawn.backoff_min_seconds:
        found.append(
            ("respawn.backoff_max_seconds", "expected at least respawn.backoff_min_seconds")
        )
    return found + _metrics_contradictions(config) + _ingress_contradictions(config)


def _metrics_contradictions(config: Config) -> list[tuple[str, str]]:
    if not config.metrics.listen:
        return []
    try:
        parse_address(config.metrics.listen)
    except ConfigError as error:
        return [("metrics.listen", str(error))]
    return []


def _ingress_contradictions(config: Config) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    paths: set[tuple[str, str]] = set()
    names: set[str] = set()
    for index, ingress in enumerate(config.ingress):
        place = f"ingress[{index}]"
        if (ingress.kind, ingress.path) in paths:
            found.append((f"{place}.path", f"{ingress.path!r} is used twice"))
        if ingress.name.lower() in names:
            found.append((f"{place}.name", f"{ingress.name!r} is used twice"))
        if ingress.kind == "posix-queue" and "/" in ingress.path[1:]:
            found.append((f"{place}.path", "expected a slash and a name without one"))
        found += [
            (f"{place}.to", f"{who!r}: expected a name, #room, or the beginning of one and a *")
            for who in ingress.to
            if re.fullmatch(r"#?(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,31})?\*?", who) is None
            or who in {"", "#"}
        ]
        paths.add((ingress.kind, ingress.path))
        names.add(ingress.name.lower())
    return found


def _explain(message: str) -> str:
    """Turn "Expected `int` >= 1 - at `$.log.level`" into "log.level: expected int >= 1"."""
    problem, _, place = message.partition(" - at ")
    key_path = place.strip("`").removeprefix("$").removeprefix(".")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        key = match[1]
        return f"{key_path}.{key}".removeprefix(".") + f": unknown key{_suggest(key_path, key)}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"{key_path}.{match[1]}: this key must be given"
    option = _find(key_path)
    if option is not None and option.choices:
        return f"{key_path}: expected one of {', '.join(option.choices)}"
    if option is not None and option.shape and "regex" in problem:
        return f"{key_path}: expected {option.shape}"
    words = problem.replace("`array`", "list").replace("`object`", "table").replace("`", "")
    return f"{key_path}: {words[0].lower()}{words[1:]}"


def _find(key_path: str) -> Option | None:
    """Return the option at a place such as `log.level` or `ingress[0].kind`."""
    wanted = re.sub(r"\[\d+\]", "", key_path)
    every = (*options(), *ingress_options())
    return next((option for option in every if option.key_path == wanted), None)


def _suggest(table: str, key: str) -> str:
    struct = getattr(Config(), table, None) if table else Config()
    known = () if struct is None else getattr(struct, "__struct_fields__", ())
    if close := difflib.get_close_matches(key, known, n=1):
        return f", did you mean {close[0]}?"
    tables = [option.table for option in options() if option.key == key]
    return f", it stands under [{tables[0]}]" if tables else ""
