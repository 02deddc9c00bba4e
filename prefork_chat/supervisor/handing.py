"""Which descriptors another program of the operator's may get, and what they let it do.

Called by the supervisor's only thread, for `admin`, which sends what comes from here by SCM_RIGHTS.
Programs that look on (`prefork-chat top`, `metrics`) and such as speak to workers (a console) get
their own descriptors of what the daemon has; they come and go without it. Each part is a function
in `_PARTS`: a new one is one line there.

    registry     the registry's memory, to be read only
    supervisor   a pidfd: readable when the supervisor has ended
    attendants   the table of the attendants, to be read only
    pairs        inlets of all pairs, `process.P` and `loop.P.T`: SIOCOUTQ says how full they are
    consoles     outlets of the pairs `console.K`, where the console of that place hears of events

What is handed over is a duplicate, or a file opened anew: what the daemon has stays as it is.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from prefork_chat import __version__
from prefork_chat.control import Attached, Done, Failed, Handed
from prefork_chat.inheritance import ATTENDANTS
from prefork_chat.supervisor.listeners import describe
from prefork_chat.supervisor.operations import Refused

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prefork_chat.control import Answer
    from prefork_chat.supervisor.estate import Estate

    _Wanted: TypeAlias = Mapping[str, Callable[[], int]]
    """Names, and what opens the descriptor of each."""

_MOST_IN_PARCEL: Final = 128
"""Descriptors in one message; the kernel takes 253 (SCM_MAX_FD)."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Descriptors for one message, and the line that names them; whoever has it closes them."""

    label: Handed
    descriptors: tuple[int, ...]


def hand_over(estate: Estate, parts: Sequence[str]) -> Iterator[Answer | Parcel]:
    """Return whose they are, the descriptors of the named parts in parcels, and how many.

    A parcel is made when it is asked for. Raises Refused if there is no such part.
    """
    for part in parts:
        if part not in _PARTS:
            raise Refused(f"there is no part {part!r}; there are {', '.join(_PARTS)}")
    wanted = {name: open_ for part in parts for name, open_ in _PARTS[part](estate).items()}
    return _hand_over(estate, wanted)


def _hand_over(estate: Estate, wanted: _Wanted) -> Iterator[Answer | Parcel]:
    yield Attached(
        version=__version__,
        pid=os.getpid(),
        runtime_dir=str(estate.runtime.path),
        listen=tuple(map(describe, estate.listeners.sockets)),
        attendants=ATTENDANTS,
    )
    names = tuple(wanted)
    for start in range(0, len(names), _MOST_IN_PARCEL):
        label = Handed(names[start : start + _MOST_IN_PARCEL])
        try:
            yield Parcel(label, _open_all([wanted[name] for name in label.names]))
        except OSError as error:
            yield Failed(f"nothing can be handed over: {error.strerror}")
            return
    yield Done(f"{len(names)} handed over")


def _open_all(openers: Sequence[Callable[[], int]]) -> tuple[int, ...]:
    """Open all or none; raises OSError."""
    with ExitStack() as undo:
        opened = []
        for open_ in openers:
            opened.append(open_())
            undo.callback(os.close, opened[-1])
        undo.pop_all()
        return tuple(opened)


def _registry(estate: Estate) -> _Wanted:
    return {"registry": estate.memory.open_to_read}


def _supervisor(estate: Estate) -> _Wanted:
    return {"supervisor": lambda: os.dup(estate.supervisor_pidfd)}


def _attendants(estate: Estate) -> _Wanted:
    path = f"/proc/self/fd/{estate.attendants_fd}"
    return {"attendants": lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC)}


def _pairs(estate: Estate) -> _Wanted:
    def duplicate(name: str) -> Callable[[], int]:
        inlet = estate.named_pairs[name].inlet
        return lambda: os.dup(inlet.fileno())

    return {
        name: duplicate(name)
        for name in estate.named_pairs
        if name.startswith(("process.", "loop."))
    }


def _consoles(estate: Estate) -> _Wanted:
    def duplicate(outlet: socket.socket) -> Callable[[], int]:
        return lambda: os.dup(outlet.fileno())

    return {
        f"console.{place}": duplicate(pair.outlet)
        for place, pair in enumerate(estate.pairs.consoles)
    }


_PARTS: Final[Mapping[str, Callable[[Estate], _Wanted]]] = {
    "registry": _registry,
    "supervisor": _supervisor,
    "attendants": _attendants,
    "pairs": _pairs,
    "consoles": _consoles,
}
