"""A network that can fail: connections through a relay, which cuts them or swallows what comes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING, Self

from prefork_chat.addresses import Address

if TYPE_CHECKING:
    from types import TracebackType


class Relay:
    """Passes on what comes to its `address`, in a thread of its own.

    While `is_down` nobody can connect; while `is_deaf` what the server says is thrown away. `heard`
    is what it has said and has been passed on.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("tcp", host="127.0.0.1", port=self._listener.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other_end: dict[socket.socket, socket.socket] = {}
        self._servers: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._has_ended = False
        self.is_down = False
        self.is_deaf = False
        self.heard = bytearray()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._has_ended = True
        self._thread.join()
        with self._lock:
            self._cut()
        self._listener.close()
        self._selector.close()

    def fail(self) -> None:
        """Cut all connections, and let nobody connect until `work`."""
        with self._lock:
            self.is_down = True
            self._cut()

    def work(self) -> None:
        """Be a good network again."""
        with self._lock:
            self.is_down = self.is_deaf = False

    def _pass_on(self) -> None:
        while not self._has_ended:
            ready = self._selector.select(0.02)
            with self._lock:
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._carry(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.is_down:
            client.close()
            return
        server = socket.create_connection((self._server.host, self._server.port))
        self._servers.add(server)
        for one, other in ((client, server), (server, client)):
            self._other_end[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, end: socket.socket) -> None:
        if end not in self._other_end:
            return  # it was closed in this round
        try:
            data = end.recv(65536)
            if data and not (self.is_deaf and end in self._servers):
                self._other_end[end].sendall(data)
                if end in self._servers:
                    self.heard += data
        except OSError:
            data = b""
        if not data:
            self._close(end)

    def _cut(self) -> None:
        for end in [*self._other_end]:
            self._close(end)

    def _close(self, end: socket.socket) -> None:
        for one in (end, self._other_end.get(end)):
            if one is not None and self._other_end.pop(one, None) is not None:
                self._selector.unregister(one)
                self._servers.discard(one)
                with contextlib.suppress(OSError):
                    one.close()
