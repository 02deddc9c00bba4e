"""The estate in writing: what a supervisor must know to go on with what another one has made.

A deed says nothing that can be seen in the objects themselves (the registry knows its shape) and no
descriptor's number but names: whoever hands an estate on says which descriptor has which name.
Pure; written and read by the supervisor's only thread.

A deed may be written by one version of the program and read by another. `Deed.version` grows with
every change that an older or a newer reader could misunderstand; fields that have a default may
come and go without. What workers of both versions share while they live side by side has numbers
of its own: `inheritance.COMPATIBILITY` and the registry's layout.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from prefork_chat.errors import UpgradeError
from prefork_chat.inheritance import COMPATIBILITY
from prefork_chat.registry.layout import VERSION_NUMBER as LAYOUT_VERSION
from prefork_chat.registry.table import Order
from prefork_chat.supervisor.children import Child, Phase

VERSION: Final = 1


class ChildEntry(Struct, frozen=True):
    """One p_id of the table of workers; `phase` and `told` are names of their enums' members."""

    p_id: int
    phase: str
    generation: int
    pid: int
    forked_ns: int
    due_ns: int
    crashes: int
    told: str | None


class SocketFileEntry(Struct, frozen=True):
    """The file of one of our Unix sockets."""

    path: str
    device: int
    inode: int
    change_ns: int


class Deed(Struct, frozen=True, kw_only=True):
    """Everything about a daemon but its descriptors.

    `fixed` has the options that cannot change while it runs, by key path. `begun_ns` is when the
    upgrade was asked for. `semaphores` are keys, by purpose. `kept` are (slot, generation),
    `undelivered` (p_id, slot, generation). `peers` are the questions of those at the admin socket
    who wait, None for one that has been understood. `stored` are the names in systemd's store.
    `attendants` are by place, each the one of a table of its own.
    """

    version: int = VERSION
    compatibility: int = COMPATIBILITY
    layout: int = LAYOUT_VERSION
    begun_ns: int
    runtime_dir: str
    fixed: dict[str, Any]
    semaphores: dict[str, int]
    places: int
    threads: int
    listeners: int
    files: list[SocketFileEntry]
    kept: list[tuple[int, int]]
    undelivered: list[tuple[int, int, int]]
    children: list[ChildEntry]
    attendants: list[ChildEntry] = []
    is_announced: bool = False
    peers: list[bytes | None] = []
    stored: list[str] = []


class _Versions(Struct, frozen=True):
    version: int = 0
    compatibility: int = 0
    layout: int = 0


def write_child(child: Child) -> ChildEntry:
    """Return the entry of a child."""
    return ChildEntry(
        p_id=child.p_id,
        phase=child.phase.name,
        generation=child.generation,
        pid=child.pid,
        forked_ns=child.forked_ns,
        due_ns=child.due_ns,
        crashes=child.crashes,
        told=None if child.told is None else child.told.name,
    )


def read_child(entry: ChildEntry) -> Child:
    """Return the child of an entry."""
    return Child(
        p_id=entry.p_id,
        phase=Phase[entry.phase],
        generation=entry.generation,
        pid=entry.pid,
        forked_ns=entry.forked_ns,
        due_ns=entry.due_ns,
        crashes=entry.crashes,
        told=None if entry.told is None else Order[entry.told],
    )


def encode(deed: Deed) -> bytes:
    """Return the deed as bytes."""
    return msgspec.msgpack.encode(deed)


def decode(data: bytes) -> Deed:
    """Read a deed; raises UpgradeError if this program cannot go on with what it describes."""
    try:
        _check(msgspec.msgpack.decode(data, type=_Versions))
        return msgspec.msgpack.decode(data, type=Deed)
    except msgspec.MsgspecError as error:
        raise UpgradeError(f"the running daemon's state: {error}") from error


def _check(theirs: _Versions) -> None:
    for what, version, ours in (
        ("state", theirs.version, VERSION),
        ("registry layout", theirs.layout, LAYOUT_VERSION),
        ("worker interface", theirs.compatibility, COMPATIBILITY),
    ):
        if version != ours:
            raise UpgradeError(
                f"the running daemon's {what} has version {version} and this program's {ours}: "
                "a restart is needed"
            )
