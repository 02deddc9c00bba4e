"""A chat server with one fault, so that loadgen has something to find: `faulty_server.py FAULT`.

Speaks the part of the line protocol that loadgen uses. Prints its port, then serves until its stdin
ends. Every tenth message is treated as FAULT says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

DELAY_SECONDS = 0.02


@dataclass
class Client:
    writer: asyncio.StreamWriter
    name: bytes = b""
    is_quiet: bool = False


@dataclass
class Chat:
    fault: str
    clients: dict[bytes, Client] = field(default_factory=dict)
    rooms: dict[bytes, list[Client]] = field(default_factory=dict)
    count: int = 0
    held: list[tuple[Client, bytes]] = field(default_factory=list)

    def deliver(self, sender: Client, dest: bytes, message: bytes, line: bytes = b"") -> None:
        self.count += 1
        receiver = self.clients[dest]
        line = line or b"CHAT %s %s\n" % (sender.name, message)
        fault = FAULTS[self.fault] if self.count % 10 == 0 else None
        if fault is not None:
            fault(self, sender, receiver, line)
        elif self.fault == "delay":
            loop = asyncio.get_running_loop()
            loop.call_later(DELAY_SECONDS, self.finish, sender, receiver, line)
        elif self.fault == "refuse-ahead":
            loop = asyncio.get_running_loop()
            loop.call_later(DELAY_SECONDS, receiver.writer.write, line)
            lose(self, sender, receiver, line)
        else:
            self.finish(sender, receiver, line)

    def deliver_in_room(self, sender: Client, room: bytes, message: bytes) -> None:
        """As if there were no receipts but the last: each member's share may be at fault."""
        is_quiet, sender.is_quiet = sender.is_quiet, True
        members = [member for member in self.rooms[room] if member is not sender]
        for member in members:
            self.deliver(
                sender, member.name, message, b"CHAT %s %s %s\n" % (room, sender.name, message)
            )
        sender.is_quiet = is_quiet
        count = len(members) - (self.fault == "miscount")
        if not is_quiet:
            sender.writer.write(b"OK CHAT %s n=%d\n" % (room, count))

    def finish(self, sender: Client, receiver: Client, line: bytes) -> None:
        receiver.writer.write(line)
        if not sender.is_quiet:
            sender.writer.write(b"OK CHAT %s\n" % receiver.name)
        for other, held in [each for each in self.held if each[0] is receiver]:
            other.writer.write(held)
            self.held.remove((other, held))


def lose(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    if not sender.is_quiet:
        sender.writer.write(b"OK CHAT %s\n" % receiver.name)


def lose_receipt(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    receiver.writer.write(line)


def double(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    chat.finish(sender, receiver, line + line)


def hold(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    chat.held.append((receiver, line))  # until the next one to the same receiver


def change(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    chat.finish(sender, receiver, line[:-2] + b"?\n")


def misdeliver(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    other = next(each for each in chat.clients.values() if each not in (sender, receiver))
    other.writer.write(line)


def refuse(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    sender.writer.write(b"ERR CHAT BUSY %s reads too slowly\n" % receiver.name)


def refuse_and_deliver(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    refuse(chat, sender, receiver, line)
    receiver.writer.write(line)


def disconnect(chat: Chat, sender: Client, receiver: Client, line: bytes) -> None:
    receiver.writer.close()


Fault = Callable[[Chat, Client, Client, bytes], None]
FAULTS: dict[str, Fault | None] = {
    "none": None,
    "delay": None,
    "lose": lose,
    "lose-receipt": lose_receipt,
    "double": double,
    "hold": hold,
    "change": change,
    "misdeliver": misdeliver,
    "refuse": refuse,
    "refuse-ahead": refuse,  # and the others' messages come long after their receipts
    "refuse-and-deliver": refuse_and_deliver,
    "disconnect": disconnect,
    "miscount": None,
    "roomless": None,
    "full": None,
    "deaf": None,
}


async def converse(chat: Chat, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    client = Client(writer)
    writer.write(b"ERR HELO FULL no room\n" if chat.fault == "full" else b"OK HELO faulty/0\n")
    while line := (await reader.readline()).rstrip(b"\n"):
        match line.split(b" ", 2):
            case [b"JOIN", name]:
                client.name = name
                chat.clients[name] = client
                writer.write(b"OK JOIN %s\n" % name)
            case [b"HELO", b"quiet"]:
                client.is_quiet = True
                writer.write(b"OK HELO quiet\n")
            case [b"PASS", *_]:
                writer.write(b"OK PASS\n")
            case [b"ENTR", room] if chat.fault != "roomless":
                chat.rooms.setdefault(room, []).append(client)
                writer.write(b"OK ENTR %s n=%d\n" % (room, len(chat.rooms[room])))
            case [b"CHAT", room, message] if room.startswith(b"#"):
                chat.deliver_in_room(client, room, message)
            case [b"CHAT", dest, message]:
                chat.deliver(client, dest, message)
            case [b"LEAV"]:
                if chat.fault == "deaf":
                    continue
                writer.write(b"OK LEAV\n")
                break
            case _:
                writer.write(b"ERR * BADVERB what?\n")
    chat.clients.pop(client.name, None)
    writer.close()


async def serve(fault: str) -> None:
    chat = Chat(fault)
    server = await asyncio.start_server(lambda r, w: converse(chat, r, w), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
