"""The sockets in the runtime directory: where `ctl` finds the daemon, and the porter's door.

Called by the supervisor's only thread, at the start and at the end; who comes to the admin socket
is `admin`'s, who comes to the door the workers'. The directory is ours while we have its lock, so
whatever is there at the start is a dead daemon's.
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


class RuntimeSocket:
    """A listening Unix socket, mode 0600. Owner: the supervisor; `socket` is non-blocking."""

    def __init__(self, runtime: RuntimeDirectory, name: str, listener: socket.socket) -> None:
        """Take over a socket that is bound in that directory."""
        self._runtime: Final = runtime
        self._name: Final = name
        self.socket: Final = listener

    @classmethod
    def open(cls, runtime: RuntimeDirectory, name: str) -> RuntimeSocket:
        """Bind and listen in the directory, whose lock we have; raises StartError.

        What is there is a dead daemon's and is replaced.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            _unlink(runtime, name)
            listener.bind(control.socket_path(runtime.fd, name))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise StartError(f"socket {runtime.path / name}: {error.strerror}") from error
        finally:
            os.umask(mask)
        listener.setblocking(False)
        return cls(runtime, name, listener)

    def close(self) -> None:
        """Unlink it and close it in this process."""
        _unlink(self._runtime, self._name)
        self.socket.close()


def _unlink(runtime: RuntimeDirectory, name: str) -> None:
    try:
        os.unlink(name, dir_fd=runtime.fd)
    except FileNotFoundError:
        pass  # nobody was here before, or somebody has tidied up
