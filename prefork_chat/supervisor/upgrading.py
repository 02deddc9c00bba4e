"""How the supervisor becomes another program, perhaps a newer one, in the same process.

The command that was typed is run again, in place (execve(2)): same pid, same children, same
descriptors. What the next program must know is in a memfd, whose number is in an environment
variable: a `Deed`, and which descriptor has which name. Every descriptor that it names is made
inheritable for the exec and nothing else is; signals stay blocked all through it, so none is lost.

Before that the same command is run in a child, with the deed alone: a *trial*, which does all that
can fail - imports, options, configuration, versions - and touches nothing. Only if it exits 0 is
there an exec. Called by the supervisor's only thread; nothing here waits.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from prefork_chat.errors import UpgradeError
from prefork_chat.registry.endings import describe_status
from prefork_chat.supervisor import deed as deeds
from prefork_chat.supervisor.children import NANOSECONDS
from prefork_chat.supervisor.spawn import spawn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from prefork_chat.supervisor.deed import Deed

VARIABLE: Final = "PREFORK_CHAT_UPGRADE"
# A start takes 0.2 s on an idle machine; one that takes this long does not end.
TRIAL_NS: Final = 30 * NANOSECONDS
_CHECK: Final = "check"
_RESUME: Final = "resume"
_MOST_OUTPUT_BYTES: Final = 4096
_NOT_FOUND: Final = 127  # as a shell says it


class Parcel(msgspec.Struct, frozen=True):
    """What is in the memfd: an encoded deed, and descriptors by name, none for a trial."""

    deed: bytes
    descriptors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Handover:
    """What this program has got from the one before it in the same process, or is to check."""

    is_trial: bool
    deed: Deed
    descriptors: Mapping[str, int]


def take_handover(environ: MutableMapping[str, str]) -> Handover | None:
    """Take what was handed on to this program out of `environ`; None if it was started afresh.

    The descriptors are closed on exec from here on. Raises UpgradeError if this program cannot go
    on with it.
    """
    kind, _, number = environ.pop(VARIABLE, "").partition(":")
    if kind not in (_CHECK, _RESUME) or not number.isdecimal():
        return None
    with open(int(number), "rb") as file:
        file.seek(0)
        data = file.read()
    try:
        parcel = msgspec.msgpack.decode(data, type=Parcel)
    except msgspec.MsgspecError as error:
        raise UpgradeError(f"the running daemon's state: {error}") from error
    for fd in parcel.descriptors.values():
        os.set_inheritable(fd, False)
    return Handover(kind == _CHECK, deeds.decode(parcel.deed), parcel.descriptors)


def is_handover(environ: Mapping[str, str]) -> bool:
    """Say whether this program goes on with, or checks, a running daemon."""
    return VARIABLE in environ


def become(deed: Deed, descriptors: Mapping[str, int], variables: Mapping[str, str]) -> None:
    """Become the program that was started, anew; does not return unless it fails, with OSError.

    `variables` are added to the environment. After a failure everything is as it was.
    """
    parcel = _write_parcel(Parcel(deeds.encode(deed), dict(descriptors)))
    fds = (parcel, *descriptors.values())
    try:
        for fd in fds:
            os.set_inheritable(fd, True)
        _run_command(f"{_RESUME}:{parcel}", variables)
    finally:
        for fd in fds:
            os.set_inheritable(fd, False)
        os.close(parcel)


class Trial:
    """A run of the next program that only looks whether it could go on. Owner: the supervisor.

    `pid` is a child of ours that is no worker; `deadline_ns` when it has had its time.
    """

    def __init__(self, deed: Deed, prepare: Callable[[], None]) -> None:
        """Start it; `prepare` gives up, in the child, what is ours. Raises OSError."""
        with ExitStack() as undo:
            parcel = _write_parcel(Parcel(deeds.encode(deed), {}))
            undo.callback(os.close, parcel)
            with ExitStack() as failed:
                self._output: Final = os.memfd_create("prefork-chat-trial", os.MFD_CLOEXEC)
                failed.callback(os.close, self._output)
                self.pid: Final = spawn(prepare, partial(_run_trial, parcel, self._output))
                failed.pop_all()
        self.deadline_ns: Final = time.monotonic_ns() + TRIAL_NS

    def kill(self) -> None:
        """End it; it is a child of ours until somebody waits for it."""
        os.kill(self.pid, signal.SIGKILL)

    def finish(self, status: int) -> str:
        """Return what it has found wrong, "" if nothing; `status` is waitpid's. Called once."""
        output = os.pread(self._output, _MOST_OUTPUT_BYTES, self._start_of_end())
        os.close(self._output)
        if os.waitstatus_to_exitcode(status) == 0:
            return ""
        lines = output.decode("utf-8", "replace").strip().splitlines()
        said = lines[-1].removeprefix("prefork-chat: ") if lines else "it says nothing"
        return f"{said} ({describe_status(status)})"

    def _start_of_end(self) -> int:
        return max(0, os.fstat(self._output).st_size - _MOST_OUTPUT_BYTES)


def _write_parcel(parcel: Parcel) -> int:
    fd = os.memfd_create("prefork-chat-parcel", os.MFD_CLOEXEC)
    with open(fd, "wb", closefd=False) as file:
        file.write(msgspec.msgpack.encode(parcel))
    return fd


def _run_trial(parcel: int, output: int) -> int:
    """Become the trial, in a child."""
    os.set_inheritable(parcel, True)
    for standard in (1, 2):
        os.dup2(output, standard)
    try:
        _run_command(f"{_CHECK}:{parcel}", {})
    except OSError as error:
        os.write(output, f"{sys.executable}: {error.strerror}\n".encode())
    return _NOT_FOUND


def _run_command(handover: str, variables: Mapping[str, str]) -> None:
    """Run what was typed when we were started: the same interpreter, options and arguments."""
    environ = {**os.environ, **variables, VARIABLE: handover}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
