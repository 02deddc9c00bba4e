"""What a running daemon takes over from a new configuration, and what has to wait for a restart.

Pure decision; called by the supervisor's only thread. What the daemon made before its first fork
(shared memory, socketpairs, listeners, the runtime directory) has the size and the name that the
first configuration gave it. All else is read by workers when they start, or by the supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from prefork_chat.config import Config

# Option paths of what cannot change while the daemon runs.
FIXED: Final = (
    "server.listen",
    "server.runtime_dir",
    "server.threads",
    "server.max_workers",
    "server.max_clients",
    "server.backlog",
    "server.unix_socket_mode",
    "limits.pair_buffer_bytes",
)


def adopt(running: Config, wanted: Config, places: int) -> tuple[Config, tuple[str, ...]]:
    """Return what `wanted` comes to in this daemon, and the keys that need a restart.

    Those keep the value of `running`; so does `server.workers` if there are fewer `places`.
    """
    keys = [key for key in FIXED if _get(running, key) != _get(wanted, key)]
    if wanted.server.workers > places:
        keys.append("server.workers")
    server, limits = (
        msgspec.structs.replace(
            getattr(wanted, table),
            **{
                key.removeprefix(f"{table}."): _get(running, key)
                for key in keys
                if key.startswith(f"{table}.")
            },
        )
        for table in ("server", "limits")
    )
    return msgspec.structs.replace(wanted, server=server, limits=limits), tuple(keys)


def _get(config: Config, key_path: str) -> object:
    table, _, key = key_path.partition(".")
    return getattr(getattr(config, table), key)
