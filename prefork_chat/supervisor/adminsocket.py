"""The socket in the runtime directory at which `prefork-chat ctl` finds the daemon.

Called by the supervisor's only thread, at the start and at the end; who comes is `admin`'s. The
directory is ours while we have its lock, so whatever is there at the start is a dead daemon's.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from prefork_chat import control
from prefork_chat.errors import StartError

if TYPE_CHECKING:
    from prefork_chat.supervisor.runtime import RuntimeDirectory

_BACKLOG: Final = 16


class AdminSocket:
    """The listening socket. Owner: the supervisor's thread; `socket` is non-blocking."""

    def __init__(self, runtime: RuntimeDirectory, listener: socket.socket) -> None:
        """Take over a socket that is bound in that directory."""
        self._runtime: Final = runtime
        self.socket: Final = listener

    @classmethod
    def open(cls, runtime: RuntimeDirectory) -> AdminSocket:
        """Bind and listen in the directory, whose lock we have; raises StartError.

        What is there is a dead daemon's and is replaced.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            _unlink(runtime)
            listener.bind(control.socket_path(runtime.fd))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            path = runtime.path / control.SOCKET_NAME
            raise StartError(f"admin socket {path}: {error.strerror}") from error
        finally:
            os.umask(mask)
        listener.setblocking(False)
        return cls(runtime, listener)

    def close(self) -> None:
        """Unlink it and close it in this process."""
        _unlink(self._runtime)
        self.socket.close()


def _unlink(runtime: RuntimeDirectory) -> None:
    try:
        os.unlink(control.SOCKET_NAME, dir_fd=runtime.fd)
    except FileNotFoundError:
        pass  # nobody was here before, or somebody has tidied up
