"""What systemd tells the daemon and is told by it: sd_notify(3), sd_listen_fds(3) by hand.

By hand because it is three environment variables and a datagram. Called by the supervisor's only
thread, at the start and from its loop; a worker must not notify (`NotifyAccess=main`). Nothing here
can fail the daemon: without systemd, or if it does not listen, telling is a no-op.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_LISTEN_FD: Final = 3  # sd_listen_fds(3), SD_LISTEN_FDS_START

_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE")


@dataclass(frozen=True, slots=True)
class PassedFd:
    """A descriptor that systemd opened for the daemon, and the name that its unit gives it."""

    fd: int
    name: str


class Notifier:
    """Tells systemd how the daemon is. Owner: the supervisor's thread.

    `variables`: what it has taken out of the environment, for a program that we become.
    `watchdog_seconds`: how often systemd wants to hear `watchdog()` at least, None for never. Half
    of what WATCHDOG_USEC says, as sd_watchdog_enabled(3) advises. `store_limit`: how many
    descriptors systemd holds for us, as FDSTORE says (by itself from systemd 254 on).
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take NOTIFY_SOCKET and WATCHDOG_* out of `environ`: no child may speak for the daemon."""
        self.variables: Final = {key: environ[key] for key in _VARIABLES if key in environ}
        path = environ.pop("NOTIFY_SOCKET", "")
        room = environ.pop("FDSTORE", "")
        self.watchdog_seconds: Final = _watchdog_seconds(environ)
        self._status = ""
        self._address: Final = "\0" + path[1:] if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self.store_limit = 0
        if path[:1] in ("/", "@"):  # an AF_VSOCK address has neither: not for us
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self.store_limit = int(room) if room.isdecimal() else 0

    def ready(self, status: str) -> None:
        """Say that the daemon serves: what depends on it may start now."""
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """Say in words how the daemon is, if that is news; shown by `systemctl status`."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """Say that the supervisor's loop goes round."""
        self._send("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """Say that the daemon goes down in order."""
        self._status = status
        self._send("STOPPING=1", f"STATUS={status}")

    def store(self, name: str, fd: int) -> None:
        """Have systemd hold a descriptor under a name; raises OSError if it cannot be told now."""
        if self._socket is not None:
            text = f"FDSTORE=1\nFDNAME={name}".encode()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))
            self._socket.sendmsg([text], [rights], 0, self._address)

    def unstore(self, name: str) -> None:
        """Have systemd close what it holds under a name; raises OSError like `store`."""
        if self._socket is not None:
            self._socket.sendto(f"FDSTOREREMOVE=1\nFDNAME={name}".encode(), self._address)

    def close(self) -> None:
        """Close the socket in this process; telling is a no-op afterwards."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            pass  # nobody listens there, or not fast enough: the daemon goes on


def take_listen_fds(environ: MutableMapping[str, str]) -> tuple[PassedFd, ...]:
    """Return the descriptors that systemd passed, and take the variables out of `environ`.

    Empty unless they are meant for this very process (LISTEN_PID). They become close-on-exec.
    """
    pid, count, names = (environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return ()
    fds = range(FIRST_LISTEN_FD, FIRST_LISTEN_FD + int(count))
    known = names.split(":") if names else []
    for fd in fds:
        os.set_inheritable(fd, False)
    padded = known + ["unknown"] * (len(fds) - len(known))  # the name that libsystemd gives
    return tuple(PassedFd(fd, name) for fd, name in zip(fds, padded, strict=False))


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if pid not in ("", str(os.getpid())) or not microseconds.isdecimal():
        return None
    return int(microseconds) / 2_000_000 or None
