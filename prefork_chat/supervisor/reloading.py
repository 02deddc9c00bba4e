"""What a running daemon takes over from a new configuration, and what has to wait for a restart.

Pure decision; called by the supervisor's only thread. What the daemon made before its first fork
(shared memory, socketpairs, listeners, the runtime directory) has the size and the name that the
first configuration gave it. All else is read by workers when they start, or by the supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from prefork_chat.config import Config
from prefork_chat.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORKERS: Final = "server.workers"
# Option paths of what cannot change while the daemon runs.
FIXED: Final = (
    "server.listen",
    "server.runtime_dir",
    "server.state_dir",
    "server.threads",
    "server.max_workers",
    "server.max_clients",
    "server.durability",
    "server.backlog",
    "server.unix_socket_mode",
    "limits.max_rooms",
    "limits.pair_buffer_bytes",
    "accounts.enabled",
    "operator.see_messages",  # everybody has been greeted by it
)


def adopt(running: Config, wanted: Config, places: int) -> tuple[Config, tuple[str, ...]]:
    """Return what `wanted` comes to in this daemon, and the keys that need a restart.

    Those keep the value of `running`; so does `server.workers` if there are fewer `places`.
    """
    keys = [key for key in FIXED if _get(running, key) != _get(wanted, key)]
    if wanted.server.workers > places:
        keys.append(_WORKERS)
    tables: dict[str, dict[str, Any]] = {}
    for key_path in keys:
        table, _, key = key_path.partition(".")
        tables.setdefault(table, {})[key] = _get(running, key_path)
    changed = {
        table: msgspec.structs.replace(getattr(wanted, table), **values)
        for table, values in tables.items()
    }
    return msgspec.structs.replace(wanted, **changed), tuple(keys)


def write_fixed(config: Config) -> dict[str, Any]:
    """Return the options that cannot change, by key path, for whoever goes on with the daemon."""
    return {key: msgspec.to_builtins(_get(config, key)) for key in (*FIXED, _WORKERS)}


def read_fixed(values: Mapping[str, Any]) -> Config:
    """Return a configuration that has the fixed options of another version of this program.

    Options that this version does not have are left out. Raises ConfigError if a value is not one
    that it accepts.
    """
    tables: dict[str, dict[str, Any]] = {}
    for key_path in values.keys() & {*FIXED, _WORKERS}:
        table, _, key = key_path.partition(".")
        tables.setdefault(table, {})[key] = values[key_path]
    try:
        return msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the running daemon's options: {error}") from error


def _get(config: Config, key_path: str) -> object:
    table, _, key = key_path.partition(".")
    return getattr(getattr(config, table), key)
