"""The Unix socket (unix(7)): a connection at the rendezvous, and the stream in it (`stream`)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from prefork_chat.channels.rendezvous import Rendezvous, meet, path_of
from prefork_chat.channels.stream import BUFFER_BYTES, StreamReceiver, StreamSender

if TYPE_CHECKING:
    from prefork_chat.channels.key import Key
    from prefork_chat.channels.ledger import Entry


class SocketSender(StreamSender):
    """Listens until the client comes."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(-1, entry)
        self._rendezvous = Rendezvous(entry)

    def _has_client(self, seconds: float) -> bool:
        if self._fd >= 0:
            return True
        connection = self._rendezvous.accept(seconds)
        if connection is None:
            return False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self._fd = connection.detach()
        self._rendezvous.close()
        return True

    def _remove_name(self) -> None:
        self._rendezvous.close()


def serve(_: Key, entry: Entry) -> SocketSender:
    """Listen."""
    return SocketSender(entry)


def connect(_: Key, entry: Entry) -> StreamReceiver:
    """Connect; the server accepts when it likes."""
    return StreamReceiver(meet(entry).detach(), entry)


def remove_objects(entry: Entry) -> None:
    """Remove the socket file of a dead server."""
    path_of(entry).unlink(missing_ok=True)
