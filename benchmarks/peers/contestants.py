"""Who takes part in the comparison: the daemon in several modes, and its peers.

A table: how each is called, started, spoken to, and which loads make sense for it. `assemble` says
who is here on this machine, and why the others are not.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import prefork_chat
from benchmarks import daemon
from benchmarks.build import build_router
from benchmarks.peers import debian, ircds
from benchmarks.peers.programs import serve_on_port_it_prints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from benchmarks.daemon import Server
    from benchmarks.load import Dialect, Load

Start: TypeAlias = "Callable[[Load], AbstractContextManager[Server]]"
Cpus: TypeAlias = frozenset[int] | None

_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server as it takes part: `name` for options and files, `title` for people.

    One that confirms registrations only now and then needs more `join_lanes` than others to have a
    rate at all, and `least_join_seconds` to show it.
    """

    name: str
    title: str
    start: Start
    takes: Callable[[Load], bool]
    dialect: Dialect = "native"
    receipts: bool = False
    quick_ack: bool = False
    join_lanes: int = 0
    least_join_seconds: float = 0.0

    def fit(self, load: Load) -> Load:
        """Return the load in this contestant's dialect."""
        lanes = self.join_lanes if load.mode == "join" and self.join_lanes else load.lanes
        return replace(
            load,
            dialect=self.dialect,
            receipts=self.receipts,
            quick_ack=self.quick_ack,
            lanes=lanes,
        )


@dataclass(slots=True)
class Field:
    """Who is here, in which versions, and why others are not."""

    contestants: list[Contestant]
    versions: dict[str, str]
    notes: list[str]


def takes_all(_: Load) -> bool:
    """For who takes part everywhere."""
    return True


def takes_chat(load: Load) -> bool:
    """For modes that differ only when somebody talks."""
    is_held = load.clients > load.talkers > 0 and not load.room
    return load.mode == "chat" and not is_held


def takes_small_packets(load: Load) -> bool:
    """For loads in which a sender waits for what it has sent to be acknowledged (Nagle)."""
    return takes_chat(load) and (load.in_flight == 1 or load.rate > 0 or load.room)


def assemble(options: Mapping[str, str], cpus: Cpus) -> Field:
    """Return who can take part. `options` are configuration keys for the daemon, in all its modes.

    Raises BuildError if there is no C compiler.
    """
    field = Field(
        [*ours(options, cpus)], {"prefork_chat": prefork_chat.__version__, "Python": _python()}, []
    )
    _add_ircd(field, "ngircd", "ngIRCd", lambda path: ircds.serve_ngircd(path, cpus))
    _add_ircd(field, "inspircd", "InspIRCd", lambda path: ircds.serve_inspircd(path, cpus))
    _add_python(field, cpus)
    router = build_router()
    field.contestants.append(
        Contestant(
            name="router",
            title="bare C router",
            start=lambda _: _serve([str(router)], cpus),
            takes=takes_all,
        )
    )
    return field


def ours(options: Mapping[str, str], cpus: Cpus) -> Iterator[Contestant]:
    """Yield the daemon as its users run it, and with each of the two promises taken away."""
    for durability in ("exact", "fast"):
        start = _ours({**options, "server.durability": f'"{durability}"'}, cpus)
        is_default = durability == "exact"
        prefix, mode = ("prefork_chat", "") if is_default else ("fast", ", fast")
        yield Contestant(
            name=prefix,
            title=f"prefork_chat{mode}",
            start=start,
            takes=takes_all if is_default else takes_chat,
            receipts=True,
        )
        yield Contestant(
            name=f"{prefix}-quiet",
            title=f"prefork_chat{mode}, no receipts",
            start=start,
            takes=takes_chat,
        )


def _ours(options: Mapping[str, str], cpus: Cpus) -> Start:
    return lambda load: daemon.serve(daemon.roomy(options, load.clients), "tcp", cpus)


def _add_ircd(
    field: Field,
    name: str,
    title: str,
    serve: Callable[[Path], AbstractContextManager[Server]],
) -> None:
    path = debian.find(name)
    if path is None:
        field.notes.append(f"{title} is not here: install it, or use --fetch (Debian's package)")
        return
    plain = Contestant(
        name=name,
        title=title,
        start=lambda _: serve(path),
        takes=takes_all,
        dialect="irc",
        join_lanes=1000 if name == "inspircd" else 0,  # it confirms all that wait once a second
        least_join_seconds=3.0 if name == "inspircd" else 0.0,
    )
    quick = replace(
        plain,
        name=f"{name}-quick",
        title=f"{title}, quick ack",
        takes=takes_small_packets,
        quick_ack=True,
    )
    field.contestants += [plain, quick]
    field.versions[title] = ircds.version(path)


def _add_python(field: Field, cpus: Cpus) -> None:
    streams = [sys.executable, str(_HERE / "streams_server.py")]
    fast = [sys.executable, str(_HERE / "uvloop_server.py")]
    field.contestants.append(
        Contestant(
            name="streams",
            title="asyncio streams",
            start=lambda _: _serve(streams, cpus),
            takes=takes_all,
        )
    )
    if importlib.util.find_spec("uvloop") is None:
        field.notes.append("uvloop is not here: pip install 'prefork-chat[bench]'")
        return
    field.contestants.append(
        Contestant(
            name="uvloop",
            title="asyncio.Protocol, uvloop",
            start=lambda _: _serve(fast, cpus),
            takes=takes_all,
        )
    )
    field.versions["uvloop"] = importlib.metadata.version("uvloop")


@contextlib.contextmanager
def _serve(command: list[str], cpus: Cpus) -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as name,
        serve_on_port_it_prints(command, Path(name), cpus) as server,
    ):
        yield server


def _python() -> str:
    return sys.version.split()[0]
