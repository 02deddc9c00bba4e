"""A client such as netcat, with deadlines: lines out, lines in, and every way to hang up.

Text is `str` without its line end; `send_bytes` is for what is no text. A method that waits fails
when its deadline has passed, and says what it has seen instead.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from typing import TYPE_CHECKING, Final, Self

from tests.harness.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from prefork_chat.addresses import Address

GREETING: Final = r"OK HELO prefork-chat/\S+ proto=1 max=1024( operator=sees-messages)?"

_LINGER_OFF: Final = struct.pack("ii", 1, 0)


class LineClient:
    """One connection to the daemon. A context manager; closing it twice does no harm."""

    def __init__(self, stream: socket.socket) -> None:
        """Talk over `stream`, which is connected and belongs to this object from here on."""
        self.socket: Final = stream
        self._received = bytearray()
        self._has_ended = False

    @classmethod
    def connect(
        cls,
        address: Address,
        receive_bytes: int = 0,
        seconds: float = PATIENCE_SECONDS,
        segment_bytes: int = 0,
    ) -> LineClient:
        """Connect within `seconds`; the greeting is not read.

        `receive_bytes`: what the kernel may keep for us (SO_RCVBUF); 0: its default.
        `segment_bytes`: the longest TCP segment that we take; 0: the default. A server's kernel has
        the smaller a buffer for us, the shorter our segments are.
        """
        if address.family == "unix":
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            stream = socket.socket(family, socket.SOCK_STREAM)
        try:
            if receive_bytes:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            if segment_bytes:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment_bytes)
            stream.settimeout(seconds)
            stream.connect(
                address.path if address.family == "unix" else (address.host, address.port)
            )
        except OSError:
            stream.close()
            raise
        return cls(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Saying

    def send(self, *lines: str) -> None:
        """Send lines, all at once."""
        self.send_bytes("".join(f"{line}\n" for line in lines).encode())

    def send_bytes(self, data: bytes) -> None:
        """Send exactly these bytes, waiting while the server does not read."""
        self.socket.settimeout(PATIENCE_SECONDS)
        self.socket.sendall(data)

    def send_while_taken(self, data: bytes) -> int:
        """Send as much of `data` as the kernel takes without waiting; return how many bytes."""
        self.socket.setblocking(False)
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0

    # Hearing

    def read_line(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for one line and return it."""
        deadline = time.monotonic() + seconds
        while (end := self._received.find(b"\n")) < 0:
            assert self._receive(deadline), f"the end came instead of a line: {self._received!r}"
        line = bytes(self._received[:end]).decode()
        del self._received[: end + 1]
        return line

    def read_lines(self, count: int) -> list[str]:
        """Wait for `count` lines and return them."""
        return [self.read_line() for _ in range(count)]

    def read_until(self, pattern: str, seconds: float = PATIENCE_SECONDS) -> list[str]:
        """Read lines up to the first that matches `pattern` wholly; return all, that one last."""
        deadline = time.monotonic() + seconds
        matches = re.compile(pattern).fullmatch
        lines: list[str] = []
        while not lines or not matches(lines[-1]):
            lines.append(self.read_line(deadline - time.monotonic()))
        return lines

    def expect(self, *lines: str) -> None:
        """Fail unless exactly these lines come next."""
        for line in lines:
            came = self.read_line()
            assert came == line, f"{came!r} came instead of {line!r}"

    def expect_match(self, pattern: str) -> re.Match[str]:
        """Fail unless the next line matches `pattern` wholly; return the match."""
        line = self.read_line()
        match = re.fullmatch(pattern, line)
        assert match is not None, f"{line!r} came instead of {pattern!r}"
        return match

    def expect_error(self, verb: str, code: str, about: str = "", tag: str = "") -> None:
        """Fail unless the next line is this error; `about` is its first word, if it matters."""
        words = [f"@{tag}"] if tag else []
        words += ["ERR", verb, code, about] if about else ["ERR", verb, code]
        line = self.read_line()
        assert line.startswith(" ".join([*words, ""])), f"{line!r} came instead of {words}"

    def expect_end(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Fail unless the server has closed the connection in order, with nothing more to say."""
        deadline = time.monotonic() + seconds
        while not self._received and self._receive(deadline):
            pass
        assert not self._received, f"{bytes(self._received)!r} came instead of the end"

    def expect_cut(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Fail unless the connection breaks, in whatever way; what comes before is dropped."""
        deadline = time.monotonic() + seconds
        try:
            while self._receive(deadline):
                self._received.clear()
        except ConnectionResetError:
            self._has_ended = True

    def expect_nothing(self) -> None:
        """Fail if anything has come that was not read: the next line must answer our PING."""
        self.send("PING is.there.more")
        self.expect("OK PING is.there.more")

    def ask(self, line: str, *answer: str) -> None:
        """Send a line and fail unless exactly `answer` comes next."""
        self.send(line)
        self.expect(*answer)

    # Talking

    def expect_greeting(self) -> None:
        """Read the server's first line."""
        self.expect_match(GREETING)

    def join(self, name: str) -> None:
        """Take a name."""
        self.ask(f"JOIN {name}", f"OK JOIN {name}")

    def say(self, to: str, message: str) -> None:
        """Send a message to somebody who is there, and wait for the receipt."""
        self.ask(f"CHAT {to} {message}", f"OK CHAT {to}")

    def leave(self) -> None:
        """Leave, and see the server close the connection."""
        self.ask("LEAV", "OK LEAV")
        self.expect_end()
        self.close()

    def stat(self) -> dict[str, int]:
        """Ask the daemon how it is doing."""
        self.send("STAT")
        lines = self.read_until(r"OK STAT n=\d+")[:-1]
        figures = (line.removeprefix("DATA STAT ").partition("=") for line in lines)
        return {name: int(value) for name, _, value in figures}

    # Hanging up

    def half_close(self) -> None:
        """Say that nothing more will come (FIN), and go on reading: `nc -N` at the end of input."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Hang up with RST, as a machine that crashed and came back does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
        self.socket.close()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _receive(self, deadline: float) -> bool:
        """Wait for bytes; False at the end of the stream. Fails at the deadline."""
        if self._has_ended:
            return False
        remaining = deadline - time.monotonic()
        assert remaining > 0, f"nothing came in time; unread: {bytes(self._received)!r}"
        self.socket.settimeout(remaining)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(
                f"nothing came in time; unread: {bytes(self._received)!r}"
            ) from None
        self._received += data
        self._has_ended = not data
        return bool(data)
