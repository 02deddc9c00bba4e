"""GET /metrics over HTTP, for Prometheus: as much of HTTP as that takes.

One thread; never waits. One request a connection, answered and closed; whoever is slow, or asks for
long, is cut off. An address that cannot be had is tried again and again: a second daemon that has
it may end, and a web page is no reason for this one to stop. A Unix socket is there for services
without a network; the file of one at which nobody listens is a dead porter's and is replaced.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat.log import METRICS_FAILED, METRICS_OPENED, get_logger
from prefork_chat.observing.exposition import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.addresses import Address

_MOST_VISITORS: Final = 16
_MOST_REQUEST_BYTES: Final = 8192
_PATIENCE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 2.0
_PATH: Final = b"/metrics"
# Who may read them is for the directory to say: figures are no secret.
_MODE: Final = 0o666


class _Visitor:
    """A connection, what it has said, and what it has still to hear."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self.connection: Final = connection
        self.until: Final = until
        self.request = b""
        self.out = b""


class Web:
    """The listener and its visitors. Owner: the porter's thread."""

    def __init__(self, address: Address, page: Callable[[], str]) -> None:
        """`page` returns the metrics as they are now."""
        self._address: Final = address
        self._page: Final = page
        self._log: Final = get_logger()
        self._listener: socket.socket | None = None
        self._open_at = 0.0
        self._has_complained = False
        self._visitors: dict[int, _Visitor] = {}

    def readable(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        waiting = [fd for fd, visitor in self._visitors.items() if not visitor.out]
        return waiting if self._listener is None else [self._listener.fileno(), *waiting]

    def writable(self) -> list[int]:
        """Return the descriptors to poll for writing."""
        return [fd for fd, visitor in self._visitors.items() if visitor.out]

    def wake_at(self) -> float:
        """Return when `advance` has something to do by itself (monotonic seconds)."""
        due = [visitor.until for visitor in self._visitors.values()]
        return min(due if self._listener is not None else [*due, self._open_at], default=1e18)

    def advance(self, now: float) -> None:
        """Do all that can be done now."""
        if self._listener is None:
            self._open(now)
        if self._listener is not None:
            self._welcome(self._listener, now)
        for visitor in list(self._visitors.values()):
            if now >= visitor.until or not self._serve(visitor):
                self._part(visitor)

    def close(self) -> None:
        """Hang up on everybody."""
        for visitor in list(self._visitors.values()):
            self._part(visitor)
        if self._listener is not None:
            if self._address.family == "unix":  # while it is surely ours
                Path(self._address.path).unlink(missing_ok=True)
            self._listener.close()
            self._listener = None

    def _open(self, now: float) -> None:
        if now < self._open_at:
            return
        self._open_at = now + _RETRY_SECONDS
        try:
            self._listener = _listen(self._address)
        except OSError as error:
            if not self._has_complained:
                self._has_complained = True
                self._log.warning(METRICS_FAILED, address=str(self._address), reason=error.strerror)
            return
        address = str(self._address)
        if self._address.family == "tcp":
            host, port = self._listener.getsockname()[:2]
            address = f"{host}:{port}"
        self._log.info(METRICS_OPENED, address=address)

    def _welcome(self, listener: socket.socket, now: float) -> None:
        while len(self._visitors) < _MOST_VISITORS:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # nobody more, or one who has given up
            connection.setblocking(False)
            self._visitors[connection.fileno()] = _Visitor(connection, now + _PATIENCE_SECONDS)

    def _serve(self, visitor: _Visitor) -> bool:
        """Carry on with a visitor; False when it is over."""
        try:
            if not visitor.out:
                data = visitor.connection.recv(_MOST_REQUEST_BYTES)
                visitor.request += data
                is_whole = b"\r\n\r\n" in visitor.request or b"\n\n" in visitor.request
                if not is_whole and len(visitor.request) < _MOST_REQUEST_BYTES:
                    return bool(data)
                visitor.out = self._answer(visitor.request, is_whole=is_whole)
            visitor.out = visitor.out[visitor.connection.send(visitor.out) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(visitor.out)

    def _answer(self, request: bytes, *, is_whole: bool) -> bytes:
        method, _, rest = request.partition(b"\n")[0].rstrip(b"\r").partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if not is_whole:
            return _response("431 Request Header Fields Too Large", "too long\n")
        if method not in {b"GET", b"HEAD"}:
            allowed = "Allow: GET, HEAD\r\n"
            return _response("405 Method Not Allowed", "GET is all there is\n", allowed)
        if path != _PATH:
            return _response("404 Not Found", "try /metrics\n")
        answer = _response("200 OK", self._page(), kind=CONTENT_TYPE)
        return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _part(self, visitor: _Visitor) -> None:
        del self._visitors[visitor.connection.fileno()]
        visitor.connection.close()


def _listen(address: Address) -> socket.socket:
    """Return a listener that never blocks; raises OSError."""
    if address.family == "unix":
        _clear_way(address.path)
        listener = socket.socket(socket.AF_UNIX)
        name: str | tuple[object, ...] = address.path
    else:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, name = found[0]
        listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(name)
        if address.family == "unix":
            os.chmod(address.path, _MODE)
        listener.listen()
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _clear_way(path: str) -> None:
    """Remove the file of a socket at which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            if stat.S_ISSOCK(os.stat(path).st_mode):  # connect(2) says so of other files, too
                os.unlink(path)
        except OSError:
            return  # none is there, or somebody listens: bind will tell


def _response(
    status: str, text: str, header: str = "", kind: str = "text/plain; charset=utf-8"
) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{header}Connection: close\r\n\r\n"
    )
    return head.encode() + body
