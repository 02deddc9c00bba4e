"""The carrier: moves bytes between a conversation and a socket, and keeps the conversation's time.

It decides nothing and never waits, but for `connect`, which may be called in another thread. Who
waits for the socket and the deadlines differs: `polling` for scripts and the line mode, the event
loop of prompt_toolkit for the others (`looping`).
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prefork_chat.addresses import Address
    from prefork_chat.client.conversation import Conversation

CONNECT_SECONDS: Final = 10.0
_READ_BYTES: Final = 65536


def connect(address: Address) -> socket.socket:
    """Return a connection that does not block; waits up to `CONNECT_SECONDS` for it.

    Raises OSError.
    """
    if address.family == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
    else:
        where = (address.host, address.port)
        connection = socket.create_connection(where, timeout=CONNECT_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def why(error: OSError) -> str:
    """Return an error of the socket in words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


class Carrier:
    """A conversation's connection, or none; owned by the thread that owns the conversation."""

    def __init__(self, conversation: Conversation, address: Address) -> None:
        self.conversation: Final = conversation
        self.address: Final = address
        self.connection: socket.socket | None = None
        self._unsent = b""

    @property
    def must_connect(self) -> bool:
        """Whether it is time to connect; then call `connect`, and `begin` or `fail`."""
        at = self.conversation.entrance.connect_at
        return self.connection is None and at is not None and at <= time.monotonic()

    @property
    def has_unsent(self) -> bool:
        """Whether the socket is to be watched for room, and `carry` called when there is some."""
        return bool(self._unsent)

    def wait_seconds(self) -> float | None:
        """Return how long nothing has to be done unless the socket is ready; None: for ever."""
        times = [self.conversation.wake_at()]
        if self.connection is None:
            times.append(self.conversation.entrance.connect_at)
        earliest = min((at for at in times if at is not None), default=None)
        return None if earliest is None else max(earliest - time.monotonic(), 0.0)

    def begin(self, connection: socket.socket) -> None:
        """Go on with a connection of `connect`."""
        self.connection = connection
        self._unsent = b""
        self.conversation.connected(time.monotonic())

    def fail(self, error: OSError) -> None:
        """Tell the conversation that `connect` raised this."""
        self.conversation.lost(time.monotonic(), why(error))

    def carry(self) -> None:
        """Do all that can be done without waiting: read, keep time, write, hang up."""
        if self.connection is not None:
            self._read(self.connection)
        self.conversation.tick(time.monotonic())
        if self.connection is not None:
            self._write(self.connection)
        if self.conversation.must_hang_up:
            self.close("no answer")

    def close(self, reason: str) -> None:
        """End the connection, if there is one."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
            self.conversation.lost(time.monotonic(), reason)

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(why(error))
            return
        if data:
            self.conversation.received(data, time.monotonic())
        else:
            self.close("the server has closed it")

    def _write(self, connection: socket.socket) -> None:
        self._unsent += self.conversation.take_output()
        while self._unsent:
            try:
                sent = connection.send(self._unsent)
            except BlockingIOError:
                return
            except OSError as error:
                self.close(why(error))
                return
            self._unsent = self._unsent[sent:]
