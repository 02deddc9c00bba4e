"""The Unix socket at which the client of a pipe or socket channel finds its server.

Made by the server beside its file in the ledger, for one client: it is removed when that client has
come. The directory's permissions are the socket's. Paths go through the directory's descriptor, for
sockaddr_un has room for 107 bytes only.
"""

from __future__ import annotations

import os
import select
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefork_chat.channels.errors import ChannelError, NoServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_chat.channels.ledger import Entry


class Rendezvous:
    """The server's side of it."""

    def __init__(self, entry: Entry) -> None:
        """Bind and listen. Raises ChannelError."""
        self._path = path_of(entry)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            with _short(self._path) as short:
                self._listener.bind(short)
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise ChannelError(f"{self._path}: {error.strerror}") from error

    def accept(self, seconds: float) -> socket.socket | None:
        """Return the client's connection, waiting up to `seconds` for it."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        try:
            connection = self._listener.accept()[0]
        except (BlockingIOError, ConnectionAbortedError):
            return None
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        """Stop listening and remove the socket file."""
        if self._listener.fileno() >= 0:
            self._listener.close()
            self._path.unlink(missing_ok=True)


def meet(entry: Entry) -> socket.socket:
    """Connect to the server, without waiting for its accept. Raises NoServer, ChannelError."""
    path = path_of(entry)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        with _short(path) as short:
            connection.connect(short)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
        connection.close()
        raise NoServer("its server is not ready, or has a reader") from error
    except OSError as error:
        connection.close()
        raise ChannelError(f"{path}: {error.strerror}") from error
    return connection


def path_of(entry: Entry) -> Path:
    """Return where the socket of a channel is."""
    return entry.path.with_suffix(".socket")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
