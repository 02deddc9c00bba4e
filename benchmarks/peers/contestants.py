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
from benchmarks.load import Load
from benchmarks.peers import debian, ircds
from benchmarks.peers.programs import serve_on_port_it_prints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from benchmarks.daemon import Server
    from benchmarks.load import Dialect

Start: TypeAlias = "Callable[[Load], AbstractContextManager[Server]]"
Cpus: TypeAlias = frozenset[int] | None

_ABSENT: Final = "{} is not here: install it, or use --fetch (Debian's package)"
# ngIRCd searches all clients for every one that joins: 10,000 take a minute, 20,000 four.
_NGIRCD_CLIENTS: Final = 10_000
# InspIRCd confirms registrations once a second, all that wait: a few at a time take for ever.
_INSPIRCD_LANES: Final = 2000
_HERE: Final = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A server as it takes part: `name` for options and files, `title` for people.

    `lanes` of 0 are those of the load: how many connect at the same time, before the window
    (`setup_lanes`) or in it (`join_lanes`).
    """

    name: str
    title: str
    start: Start
    takes: Callable[[Load], bool]
    dialect: Dialect = "native"
    receipts: bool = False
    quick_ack: bool = False
    setup_lanes: int = 0
    join_lanes: int = 0
    least_join_seconds: float = 0.0

    def fit(self, load: Load) -> Load:
        """Return the load in this contestant's dialect."""
        lanes = self.join_lanes if load.mode == "join" else self.setup_lanes
        return replace(
            load,
            dialect=self.dialect,
            receipts=self.receipts,
            quick_ack=self.quick_ack,
            lanes=lanes or load.lanes,
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


def takes_usual_talk(load: Load) -> bool:
    """For a mode between two others, to be seen once: no need to multiply it by every load."""
    return takes_chat(load) and load.clients == Load().clients and not load.room


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
    _add_ngircd(field, cpus)
    _add_inspircd(field, cpus)
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
            takes=takes_all if is_default else takes_usual_talk,
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


def _add_ngircd(field: Field, cpus: Cpus) -> None:
    path = debian.find("ngircd")
    if path is None:
        field.notes.append(_ABSENT.format("ngIRCd"))
        return
    _add_ircd(
        field,
        path,
        Contestant(
            name="ngircd",
            title="ngIRCd",
            start=lambda _: ircds.serve_ngircd(path, cpus),
            takes=lambda load: load.clients <= _NGIRCD_CLIENTS,
            dialect="irc",
            setup_lanes=8,  # its listener has a backlog of 10; whoever is the 11th waits seconds
        ),
    )


def _add_inspircd(field: Field, cpus: Cpus) -> None:
    path = debian.find("inspircd")
    if path is None:
        field.notes.append(_ABSENT.format("InspIRCd"))
        return
    _add_ircd(
        field,
        path,
        Contestant(
            name="inspircd",
            title="InspIRCd",
            start=lambda _: ircds.serve_inspircd(path, cpus),
            takes=takes_all,
            dialect="irc",
            setup_lanes=_INSPIRCD_LANES,
            join_lanes=_INSPIRCD_LANES,
            least_join_seconds=3.0,
        ),
    )


def _add_ircd(field: Field, path: Path, plain: Contestant) -> None:
    """Add an IRC server, and again with clients that acknowledge at once."""
    quick = replace(
        plain,
        name=f"{plain.name}-quick",
        title=f"{plain.title}, quick ack",
        takes=takes_small_packets,
        quick_ack=True,
    )
    field.contestants += [plain, quick]
    field.versions[plain.title] = ircds.version(path)


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
