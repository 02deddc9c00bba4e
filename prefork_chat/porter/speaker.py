"""The connection by which one way in speaks: a client of the chat like any other, with a name.

The porter is no loop. It connects at the door, a Unix socket in the runtime directory, and says
JOIN, ENTR and CHAT as people do: so all that clients are promised holds for it, whoever is killed,
moved or replaced, and rooms, history and permissions are what they are for everybody. What has been
written to the connection is the daemon's: workers read it to its end even when the porter is
killed.

One thread; never waits. A connection that ends is made anew, after a while that grows; what had not
been written whole is written again then. A name that somebody else has is asked for again and
again.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from prefork_chat.control import socket_path
from prefork_chat.inheritance import DOOR
from prefork_chat.log import INGRESS_JOINED, INGRESS_REFUSED, get_logger
from prefork_chat.protocol.names import fold

if TYPE_CHECKING:
    from pathlib import Path

_READ_BYTES: Final = 65_536
_SHORTEST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 2.0
_FAREWELL: Final = b"LEAV"


class Speaker:
    """One connection. `counts` has the outcomes of CHATs: `delivered`, or a code of the protocol.

    Owner: the porter's thread.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Prepare to speak as `name` at the door in a runtime directory."""
        self.counts: Final[Counter[str]] = Counter()
        self._directory: Final = directory
        self._name: Final = name
        self._log: Final = get_logger(ingress=name)
        self._socket: socket.socket | None = None
        self._is_joined = False
        self._is_leaving = False
        self._has_complained = False
        self._rooms: set[bytes] = set()
        self._out: deque[bytes] = deque()
        self._written = 0  # of the first line in `_out`
        self._in = b""
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._try_at = 0.0

    @property
    def fd(self) -> int | None:
        """The descriptor to poll; None: there is no connection."""
        return None if self._socket is None else self._socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """True while something has to be written."""
        return self._socket is not None and bool(self._out) and self._is_joined

    @property
    def is_free(self) -> bool:
        """True when it may speak, and all that it has said has been written."""
        return self._is_joined and not self._out and not self._is_leaving

    @property
    def is_gone(self) -> bool:
        """True when it has taken its leave, and there is no connection any more."""
        return self._is_leaving and self._socket is None

    def wake_at(self) -> float:
        """Return when `advance` has something to do by itself (monotonic seconds)."""
        return self._try_at if self._socket is None and not self._is_leaving else float("inf")

    def say(self, line: bytes, room: bytes = b"") -> None:
        """Say a CHAT line, for a folded #room if it is one."""
        if room and room not in self._rooms:
            self._rooms.add(room)
            self._out.append(b"ENTR %b\n" % room)
        self._out.append(line + b"\n")
        self._write()

    def leave(self) -> None:
        """Say what is left to be said, and good-bye."""
        if self._is_leaving:
            return
        self._is_leaving = True
        if not self._is_joined:
            self._hang_up()
        else:
            self._out.append(_FAREWELL + b"\n")
            self._write()

    def advance(self, now: float) -> None:
        """Connect if it is time, read what is there, write what can be written."""
        if self._socket is None:
            if now >= self._try_at and not self._is_leaving:
                self._connect(now)
            return
        self._read(now)
        self._write()

    def close(self) -> None:
        """End the connection at once."""
        self._hang_up()

    def _connect(self, now: float) -> None:
        self._try_at = now + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(socket_path(directory, DOOR))
            finally:
                os.close(directory)
        except OSError:  # no daemon, or more who wait than the door has room for
            connection.close()
            return
        self._socket = connection

    def _read(self, now: float) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            self._try_at = max(self._try_at, now + _SHORTEST_PAUSE_SECONDS)
            return
        *lines, self._in = (self._in + data).split(b"\n")
        for line in lines:
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        match line.split(b" ", 3):
            case [b"OK", b"HELO", *_]:
                self._send_now(b"JOIN %b\n" % self._name.encode())
            case [b"OK", b"JOIN", *_]:
                self._is_joined = True
                self._has_complained = False
                self._pause_seconds = _SHORTEST_PAUSE_SECONDS
                self._log.info(INGRESS_JOINED)
            case [b"ERR", b"HELO" | b"JOIN", code, *_]:
                self._complain(code)
                self._hang_up()
            case [b"OK", b"CHAT", *_]:
                self.counts["delivered"] += 1
            case [b"ERR", b"CHAT" | b"*", code, *_]:
                self.counts[code.decode("ascii", "replace")] += 1
            case [b"ERR", b"ENTR", code, *rest]:
                self._rooms.discard(fold(rest[0].split(b" ")[0]) if rest else b"")
                self._complain(code)
            case _:
                pass  # what people say to it, and notes: nobody here listens

    def _complain(self, code: bytes) -> None:
        """Log a refusal, once until there is something else to tell."""
        if not self._has_complained and not self._is_leaving:
            self._has_complained = True
            self._log.warning(INGRESS_REFUSED, code=code.decode("ascii", "replace"))

    def _send_now(self, line: bytes) -> None:
        """Send before all that waits; a fresh connection has room for it."""
        assert self._socket is not None
        try:
            self._socket.send(line)
        except OSError:
            self._hang_up()

    def _write(self) -> None:
        while self.wants_to_write:
            assert self._socket is not None
            line = self._out[0]
            try:
                self._written += self._socket.send(memoryview(line)[self._written :])
            except BlockingIOError:
                return
            except OSError:
                return  # it has ended: seen when it is read
            if self._written < len(line):
                return
            self._out.popleft()
            self._written = 0

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._is_joined = False
        self._in = b""
        self._written = 0
        # Rooms must be entered anew, by whom something waits for.
        self._rooms.clear()
        if self._is_leaving:
            self._out.clear()
            return
        rest = [line for line in self._out if not line.startswith(b"ENTR ")]
        self._out.clear()
        for line in rest:
            room = fold(line.split(b" ", 2)[1])
            if room.startswith(b"#") and room not in self._rooms:
                self._rooms.add(room)
                self._out.append(b"ENTR %b\n" % room)
            self._out.append(line)
