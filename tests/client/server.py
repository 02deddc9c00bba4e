"""A server of a few lines for conversations without sockets: what goes in comes out, or is lost.

`Wire` connects one conversation to it and says what arrives when: all, or a part before the
connection breaks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from prefork_chat.client.conversation import Conversation
from prefork_chat.client.entries import Entry, Kind
from prefork_chat.client.prompt import Prompt

GREETING = b"OK HELO prefork-chat/0.0 proto=1 max=1024\n"


@dataclass
class Server:
    """What outlives connections: the history, who is there, what the server can do."""

    has_history: bool = True
    knows_after: bool = True
    password: str = ""
    people: list[str] = field(default_factory=lambda: ["bob"])
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    """Answers that verbs get instead of the usual one, first come, first served."""
    got: list[str] = field(default_factory=list)

    def store(self, sender: str, to: str, text: str) -> None:
        """Add to the history."""
        self.rows.append((sender, to, text))

    def answer(self, line: str) -> list[str]:
        """Carry out one line of alice's; return what she is told."""
        self.got.append(line)
        tag = ""
        if line.startswith("@"):
            tag, _, line = line.partition(" ")
            tag += " "
        verb, _, rest = line.partition(" ")
        if self.refusals.get(verb):
            return [f"{tag}ERR {verb} {self.refusals[verb].pop(0)}"]
        return [f"{tag}{reply}" for reply in self._carry_out(verb, rest)]

    def _carry_out(self, verb: str, rest: str) -> list[str]:  # noqa: PLR0911 - a table
        match verb:
            case "JOIN":
                name, _, password = rest.partition(" ")
                if password != self.password:
                    return [f"ERR JOIN AUTH {name} needs its password"]
                return [f"OK JOIN {name}"]
            case "CHAT":
                to, _, text = rest.partition(" ")
                if to not in self.people and not to.startswith("#"):
                    return [f"ERR CHAT NOUSER {to} is not here"]
                self.store("alice", to, text)
                return [f"OK CHAT {to}" + (" n=2" if to.startswith("#") else "")]
            case "HIST":
                return self._history(rest.split())
            case "FIND":
                found = [(i, row) for i, row in enumerate(self.rows, 1) if rest in row[2]]
                return [*(_data("FIND", i, row) for i, row in found), f"OK FIND n={len(found)}"]
            case "WHOS":
                names = ["alice", *self.people]
                return [*(f"DATA WHOS {name}" for name in names), f"OK WHOS n={len(names)}"]
            case "ROOM":
                return ["DATA ROOM #dev 2", "DATA ROOM #ops 1", "OK ROOM n=2"]
            case "PASS":
                self.password = rest
                self.has_history = True
                return ["OK PASS alice"]
            case _:
                return [f"OK {verb} {rest}".rstrip()]

    def _history(self, words: list[str]) -> list[str]:
        if not self.has_history:
            return ["ERR HIST AUTH only for names with a password"]
        peer, count, before, after = "", 50, 1 << 60, 0
        for word in words:
            if word.startswith("before="):
                before = int(word[7:])
            elif word.startswith("after="):
                if not self.knows_after:
                    return ["ERR HIST BADARGS there is no after="]
                after = int(word[6:])
                if not after:
                    return ["ERR HIST BADARGS after=0 is no bound"]
            elif word.isdigit():
                count = int(word)
            else:
                peer = word
        rows = [
            (i, row)
            for i, row in enumerate(self.rows, 1)
            if after < i < before
            and (not peer or peer in row[:2])
            and ("alice" in row[:2] or row[1].startswith("#"))
        ]
        chosen = rows[:count] if after else rows[-count:]
        more = int(len(rows) > len(chosen))
        data = [_data("HIST", i, row) for i, row in chosen]
        return [*data, f"OK HIST n={len(chosen)} more={more}"]


def _data(verb: str, number: int, row: tuple[str, str, str]) -> str:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_000_000 + number))
    return f"DATA {verb} {number} {when} {row[0]} {row[1]} {row[2]}"


class Wire:
    """One conversation, its server, and the connection between them, with a clock of its own."""

    def __init__(self, server: Server | None = None, **about_alice: object) -> None:
        self.server = server or Server()
        self.conversation = Conversation("alice", **about_alice)  # type: ignore[arg-type]
        self.prompt = Prompt(self.conversation)
        self.now = 1000.0
        self.is_up = False
        self._unread = b""

    def connect(self, greeting: bytes = GREETING) -> None:
        """Connect now, however long the conversation would have waited, and be greeted."""
        assert self.conversation.entrance.connect_at is not None
        self.now = max(self.now, self.conversation.entrance.connect_at)
        self.conversation.connected(self.now)
        self.is_up = True
        self._unread = b""
        self.conversation.received(greeting, self.now)

    def arrive(self) -> None:
        """Connect, and go on until there is nothing more to say."""
        self.connect()
        self.settle()

    def settle(self) -> None:
        """Carry everything to and fro, and let the time pass that the conversation waits for."""
        for _ in range(1000):
            if self.carry():
                continue
            if not self.pass_time():
                return
        raise AssertionError("the conversation does not come to rest")

    def pass_time(self) -> bool:
        """Let the time pass until the conversation wakes; False if that is not soon."""
        at = self.conversation.wake_at()
        if at is None or at > self.now + 5 or not self.is_up:
            return False
        self.now = max(self.now, at)
        self.conversation.tick(self.now)
        return True

    def carry(self) -> bool:
        """Carry what there is once to the server and back; say whether there was anything."""
        data = self.conversation.take_output()
        if data and self.is_up:
            self.conversation.received(self.answers(data), self.now)
        return bool(data)

    def answers(self, data: bytes) -> bytes:
        """Return what the server says to these bytes; half a line waits for its end."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        replies = [reply for line in lines for reply in self.server.answer(line.decode())]
        return "".join(f"{reply}\n" for reply in replies).encode()

    def hear(self, *lines: str) -> None:
        """Let the server say something of its own accord."""
        self.conversation.received("".join(f"{line}\n" for line in lines).encode(), self.now)

    def hear_from_bob(self, text: str, to: str = "alice") -> None:
        """Let bob say something, which is in the history, too."""
        self.server.store("bob", to, text)
        self.hear(f"CHAT {to} bob {text}" if to.startswith("#") else f"CHAT bob {text}")

    def lose(self) -> None:
        """Break the connection; what the conversation had to say is lost with it."""
        self.is_up = False
        self.conversation.lost(self.now, "cut")

    def type(self, *lines: str) -> None:
        """Enter lines, and carry what comes of them."""
        for line in lines:
            self.prompt.typed(line, self.now)
        self.settle()

    def texts(self, talk: str = "bob") -> list[str]:
        """Return what was said in a talk, without remarks."""
        return [entry.text for entry in self.entries(talk)]

    def entries(self, talk: str = "bob") -> list[Entry]:
        """Return the messages of a talk."""
        found = self.conversation.talks.find(talk)
        return [] if found is None else [e for e in found.entries if e.kind is Kind.MESSAGE]

    def remarks(self) -> list[str]:
        """Return what the conversation, or the server, has remarked in the current talk."""
        entries = self.conversation.talks.current.entries
        return [entry.text for entry in entries if entry.kind in (Kind.REMARK, Kind.ERROR)]
