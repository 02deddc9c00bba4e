"""Which sockets the daemon accepts at: opens the configured ones, or takes over systemd's.

Called by the supervisor's only thread, before the first fork and when the daemon stops accepting;
workers inherit the sockets. If systemd passes sockets, they are taken in place of the configured
addresses: its unit decides then. All are non-blocking: between a worker's poll and its accept a
client may give up.

An address in use is tried again for a while: workers of a daemon that was killed need up to a
second to notice, and hold its sockets until then. A Unix socket's file at which nobody listens is a
dead daemon's and is replaced; one at which somebody listens is not touched. A socket's mode is
right from the moment it is there. Only files that are still ours are unlinked at the end.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from prefork_chat.addresses import parse_address
from prefork_chat.errors import ListenError
from prefork_chat.log import LISTENER_DELAYED, LISTENER_OPENED, get_logger
from prefork_chat.supervisor.socketfile import (
    SocketIdentity,
    is_listened_to,
    read_identity,
    unlink_own,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_chat.addresses import Address
    from prefork_chat.config import ServerConfig
    from prefork_chat.supervisor.ledger import Ledger
    from prefork_chat.supervisor.notify import PassedFd

    _Name = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]

# How long an address may stay in use: workers notice their supervisor's death within a second, and
# a loaded machine may need a few.
BUSY_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.05
# A name may stand for addresses of a family that this machine does not have.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
# What is to be done about it, where the system's words do not say.
_ADVICE: Final = {
    errno.EADDRNOTAVAIL: "this machine does not have that address (ip addr lists them)",
    errno.EACCES: "no permission; ports below 1024 are for root alone",
    errno.ENOENT: "its directory does not exist: make it first",
}


class Interrupted(ListenError):  # noqa: N818 - says what is the case
    """The daemon was told to stop while it waited for an address."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of one of our own Unix sockets."""

    path: str
    identity: SocketIdentity


@dataclass(slots=True)
class Listeners:
    """The open listening sockets and the files that belong to them. Owner: the supervisor."""

    sockets: list[socket.socket] = field(default_factory=list)
    files: list[SocketFile] = field(default_factory=list)

    def close(self) -> None:
        """Stop listening in this process, and unlink the socket files that are still ours.

        Files first: while the socket is open its inode cannot become another's. May be called
        twice.
        """
        for file in self.files:
            unlink_own(file.path, file.identity)
        for listener in self.sockets:
            listener.close()
        self.files.clear()
        self.sockets.clear()


class ListenerOpener:
    """Opens listeners one after the other. Owner: the supervisor's thread, during the start.

    `wait` sleeps for so many seconds and says whether the daemon shall go on.
    """

    def __init__(self, config: ServerConfig, ledger: Ledger, wait: Callable[[float], bool]) -> None:
        self._config: Final = config
        self._ledger: Final = ledger
        self._wait: Final = wait
        self._log: Final = get_logger()
        self._opened = Listeners()

    def open(self, passed: Sequence[PassedFd]) -> Listeners:
        """Take over `passed` or, if there are none, open the configured addresses.

        Raises ListenError, and has nothing open then; Interrupted if `wait` says so.
        """
        with ExitStack() as undo:
            undo.callback(self._opened.close)
            for fd in passed:
                self._keep(_take_over(fd))
            for text in () if passed else self._config.listen:
                self._open_address(parse_address(text))
            undo.pop_all()
        return self._opened

    def _open_address(self, address: Address) -> None:
        if address.family == "unix":
            path = os.path.abspath(address.path)
            self._keep(self._insist(f"unix:{path}", lambda: self._try_unix(path)))
            return
        found = _resolve(address)
        absent = 0
        for family, name in found:
            try:
                self._keep(self._insist(str(address), partial(self._try_tcp, family, name)))
            except OSError as error:
                absent += error.errno in _NOT_HERE
                if error.errno not in _NOT_HERE or absent == len(found):
                    raise ListenError(f"{address}: {_advise(error)}") from error

    def _try_tcp(self, family: socket.AddressFamily, name: _Name) -> socket.socket | None:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(name)
            listener.listen(self._config.backlog)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return None
        return listener

    def _try_unix(self, path: str) -> socket.socket | None:
        if not _clear_way(path):
            return None
        self._ledger.announce_socket(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o777 & ~int(self._config.unix_socket_mode, 8))
        try:
            listener.bind(path)
        except OSError as error:
            listener.close()
            raise ListenError(f"unix:{path}: {_advise(error)}") from error
        finally:
            os.umask(mask)
        if (identity := read_identity(path)) is not None:
            self._opened.files.append(SocketFile(path, identity))
            self._ledger.confirm_socket(path, identity)
        listener.listen(self._config.backlog)
        return listener

    def _insist(self, label: str, attempt: Callable[[], socket.socket | None]) -> socket.socket:
        """Call `attempt` until it has a socket; raise ListenError when that takes too long."""
        deadline = time.monotonic() + BUSY_SECONDS
        is_told = False
        while (listener := attempt()) is None:
            if time.monotonic() >= deadline:
                raise ListenError(
                    f"{label}: address in use: somebody else listens there (ss -lp shows who); "
                    "stop it, or --listen at another"
                )
            if not is_told:
                self._log.warning(LISTENER_DELAYED, address=label, seconds=BUSY_SECONDS)
                is_told = True
            if not self._wait(_POLL_SECONDS):
                raise Interrupted(f"{label}: told to stop while the address was in use")
        return listener

    def _keep(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._opened.sockets.append(listener)
        self._log.info(LISTENER_OPENED, address=describe(listener))


def describe(listener: socket.socket) -> str:
    """Return the address of a listening socket in the form of the configuration."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _advise(error: OSError) -> str:
    return _ADVICE.get(error.errno or 0, error.strerror or str(error))


def _resolve(address: Address) -> list[tuple[socket.AddressFamily, _Name]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ListenError(f"{address}: {error.strerror}") from error
    except UnicodeError as error:
        raise ListenError(f"{address}: not a host name") from error
    known = {(family, name): None for family, _, _, _, name in found}  # an ordered set
    return list(known)


def _take_over(passed: PassedFd) -> socket.socket:
    label = f"descriptor {passed.fd} ({passed.name}) from systemd"
    try:
        listener = socket.socket(fileno=passed.fd)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"{label}: {error.strerror}") from error
    if listener.type != socket.SOCK_STREAM or not is_listening:
        listener.close()
        raise ListenError(f"{label} is not a listening stream socket (ListenStream=, Accept=no)")
    return listener


def _clear_way(path: str) -> bool:
    """Make sure that nothing is at `path`; return False if somebody listens there."""
    seen = read_identity(path)
    if seen is None:
        if os.path.lexists(path):
            raise ListenError(f"unix:{path}: exists and is not a socket")
        return True
    if is_listened_to(path):
        return False
    try:
        if read_identity(path) == seen:  # nobody replaced it while we looked
            os.unlink(path)
    except FileNotFoundError:
        pass  # somebody else removed it
    except OSError as error:
        raise ListenError(f"unix:{path}: {error.strerror}") from error
    return not os.path.lexists(path)
