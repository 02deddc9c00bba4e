"""A fast chat server in Python: asyncio.Protocol on uvloop, no coroutines. A program.

Speaks the part of the daemon's protocol that the load generator uses, and nothing else: no checks,
no limits. Prints its port; serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

clients: dict[bytes, asyncio.Transport] = {}
rooms: dict[bytes, dict[bytes, asyncio.Transport]] = {}


class Client(asyncio.Protocol):
    """One connection; its lines are dealt with as they come in."""

    __slots__ = ("is_quiet", "name", "partial", "transport")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)
        self.name = b""
        self.partial = b""
        self.is_quiet = False
        self.transport.write(b"OK HELO uvloop/1\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the name."""
        clients.pop(self.name, None)
        for members in rooms.values():
            members.pop(self.name, None)

    def data_received(self, data: bytes) -> None:
        """Cut lines and obey them."""
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            words = line.split(b" ", 2)
            if words[0] == b"CHAT":
                self.chat(words[1], words[2])
            else:
                self.command(words)

    def chat(self, to: bytes, text: bytes) -> None:
        """Deliver a message and say so."""
        if members := rooms.get(to):
            line = b"CHAT %s %s %s\n" % (to, self.name, text)
            for member in members.values():
                if member is not self.transport:
                    member.write(line)
            if not self.is_quiet:
                self.transport.write(b"OK CHAT %s n=%d\n" % (to, len(members) - 1))
        elif receiver := clients.get(to):
            receiver.write(b"CHAT %s %s\n" % (self.name, text))
            if not self.is_quiet:
                self.transport.write(b"OK CHAT %s\n" % to)
        else:
            self.transport.write(b"ERR CHAT NOUSER %s is not here\n" % to)

    def command(self, words: list[bytes]) -> None:
        """Do what any other line asks for."""
        match words:
            case [b"HELO", b"quiet"]:
                self.is_quiet = True
                self.transport.write(b"OK HELO quiet\n")
            case [b"JOIN", name]:
                self.name = name
                clients[name] = self.transport
                self.transport.write(b"OK JOIN %s\n" % name)
            case [b"ENTR", room]:
                members = rooms.setdefault(room, {})
                members[self.name] = self.transport
                self.transport.write(b"OK ENTR %s n=%d\n" % (room, len(members)))
            case [b"LEAV"]:
                self.transport.write(b"OK LEAV\n")
                self.transport.close()


async def main() -> None:
    """Serve on a port of the kernel's choice."""
    server = await asyncio.get_running_loop().create_server(Client, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
