"""The obvious chat server in Python: asyncio streams, one coroutine a client. A program.

Speaks the part of the daemon's protocol that the load generator uses, and nothing else: no checks,
no limits. Prints its port; serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

clients: dict[bytes, StreamWriter] = {}
rooms: dict[bytes, dict[bytes, StreamWriter]] = {}


async def chat(writer: StreamWriter, name: bytes, is_quiet: bool, to: bytes, text: bytes) -> None:
    """Deliver a message and say so."""
    receipt = b"OK CHAT %s\n" % to
    if members := rooms.get(to):
        line = b"CHAT %s %s %s\n" % (to, name, text)
        for member in members.values():
            if member is not writer:
                member.write(line)
                await member.drain()
        receipt = b"OK CHAT %s n=%d\n" % (to, len(members) - 1)
    elif receiver := clients.get(to):
        receiver.write(b"CHAT %s %s\n" % (name, text))
        await receiver.drain()
    else:
        receipt = b"ERR CHAT NOUSER %s is not here\n" % to
    if not is_quiet or receipt.startswith(b"ERR"):
        writer.write(receipt)
        await writer.drain()


async def serve(reader: StreamReader, writer: StreamWriter) -> None:
    """Serve one client from its first line to its last."""
    name, is_quiet = b"", False
    writer.write(b"OK HELO streams/1\n")
    while line := await reader.readline():
        match line.rstrip(b"\n").split(b" ", 2):
            case [b"CHAT", to, text]:
                await chat(writer, name, is_quiet, to, text)
            case [b"HELO", b"quiet"]:
                is_quiet = True
                writer.write(b"OK HELO quiet\n")
            case [b"JOIN", name]:
                clients[name] = writer
                writer.write(b"OK JOIN %s\n" % name)
            case [b"ENTR", room]:
                members = rooms.setdefault(room, {})
                members[name] = writer
                writer.write(b"OK ENTR %s n=%d\n" % (room, len(members)))
            case [b"LEAV"]:
                writer.write(b"OK LEAV\n")
                break
    clients.pop(name, None)
    for members in rooms.values():
        members.pop(name, None)
    writer.close()


async def main() -> None:
    """Serve on a port of the kernel's choice."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
