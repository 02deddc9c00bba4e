"""A door with somebody behind it who answers as the test says: no daemon, no waiting."""

from __future__ import annotations

import socket

from prefork_chat.control import socket_path
from prefork_chat.inheritance import DOOR


class Door:
    """A listening socket in a runtime directory, and the connection that came last."""

    def __init__(self, directory_fd: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(socket_path(directory_fd, DOOR))
        self._listener.listen()
        self._listener.setblocking(False)
        self.guest: socket.socket | None = None

    def open(self) -> None:
        """Let in who has come, and greet him."""
        if self.guest is not None:
            self.guest.close()
        self.guest, _ = self._listener.accept()
        self.guest.setblocking(False)
        self.say("OK HELO prefork-chat/1 proto=1 max=1024")

    def say(self, *lines: str) -> None:
        assert self.guest is not None
        self.guest.sendall("".join(f"{line}\n" for line in lines).encode())

    def heard(self) -> list[str]:
        """Return the lines that have come since the last time."""
        assert self.guest is not None
        try:
            return self.guest.recv(1 << 20).decode("utf-8", "replace").splitlines()
        except BlockingIOError:
            return []

    def hang_up(self) -> None:
        assert self.guest is not None
        self.guest.close()
        self.guest = None

    def close(self) -> None:
        if self.guest is not None:
            self.guest.close()
        self._listener.close()
