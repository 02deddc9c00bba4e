"""`send` and `listen`: conversations of scripts, which end with an exit code.

No terminal is needed and none is looked for. What was not delivered is said on standard error; a
connection that ends is made again, as for a person, but for the first one: where no server is,
there is nothing to wait for.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.client.conversation import Conversation
from prefork_chat.client.entries import Entry, Kind, State
from prefork_chat.client.events import Added, Asked, Changed, Event, Recalled
from prefork_chat.errors import NoServer, SendError
from prefork_chat.terminal import polling
from prefork_chat.terminal.carrier import Carrier, connect, why

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_chat.addresses import Address

STDIN: Final = 0
_MOST_WAITING: Final = 200
"""Lines of standard input that are taken before those that wait have gone."""
_READ_BYTES: Final = 65536


def begin(address: Address, name: str, password: str, rooms: Sequence[str]) -> Carrier:
    """Return a conversation with a connection. Raises NoServer."""
    conversation = Conversation(
        name,
        password=password,
        rooms=rooms,
        recall_count=0,
        wants_people=False,
        chance=lambda: int.from_bytes(os.urandom(4), "little") / 2**32,
        epoch=time.time() - time.monotonic(),
    )
    carrier = Carrier(conversation, address)
    try:
        carrier.begin(connect(address))
    except OSError as error:
        raise NoServer(f"no server at {address}: {why(error)}") from error
    return carrier


def send(carrier: Carrier, dest: str, lines: Sequence[str] | None, seconds: float) -> int:
    """Send `lines`, or those of standard input, to `dest`; return the exit code: 0 if all arrived.

    What was not delivered within `seconds` after the last line was read has failed. Raises
    SendError if we are not let in.
    """
    conversation = carrier.conversation
    sending = _Sending(conversation, dest)
    source = None if lines is not None else _StandardInput()
    for line in lines or ():
        sending.say(line)
    deadline = time.monotonic() + seconds
    while source is not None or conversation.mailbag:
        wants_input = source is not None and len(conversation.mailbag) < _MOST_WAITING
        ready = polling.step(carrier, [STDIN] if wants_input else [], seconds)
        sending.take(conversation.take_events())
        if source is not None and STDIN in ready:
            for line in source.read():
                sending.say(line)
            if source.has_ended:
                source = None
            deadline = time.monotonic() + seconds
        elif time.monotonic() >= deadline and conversation.mailbag:
            raise SendError(f"{len(conversation.mailbag)} messages have no answer: time is over")
    end(carrier)
    return 1 if sending.failures else 0


class _Sending:
    """One run of `send`: what was said, and how often it failed."""

    def __init__(self, conversation: Conversation, dest: str) -> None:
        self._conversation = conversation
        self._dest = dest
        self.failures = 0

    def say(self, line: str) -> None:
        self._conversation.say(self._dest, line, time.monotonic())

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Asked(_, reason):
                    raise SendError(reason)
                case Changed(entry) if entry.state in (State.FAILED, State.UNSURE):
                    self.failures += 1
                    complain(entry.reason)
                case Added(_, entry) if entry.kind is Kind.ERROR:
                    complain(entry.text)
                case _:
                    pass


class _StandardInput:
    """Standard input as lines, as far as they have come."""

    def __init__(self) -> None:
        self._rest = b""
        self.has_ended = False

    def read(self) -> list[str]:
        """Read once; return the lines that are whole now, at the end the last one, too."""
        data = os.read(STDIN, _READ_BYTES)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data:
            self.has_ended = True
            lines.append(self._rest)
        return [line.decode(errors="replace") for line in lines]


def listen(carrier: Carrier, *, as_json: bool) -> int:
    """Print what comes, a line for each message, until a signal or the end of the reader.

    Raises SendError if we are not let in.
    """
    conversation = carrier.conversation
    try:
        while not conversation.is_over:
            polling.step(carrier)
            for entry in _heard(conversation.take_events()):
                print(as_json_line(entry) if as_json else as_line(entry))
            sys.stdout.flush()
    except KeyboardInterrupt:
        end(carrier)
    except BrokenPipeError:
        # Python writes what is left at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        end(carrier)
    return 0


def end(carrier: Carrier) -> None:
    """Leave, and wait until the server has let us go; not for long."""
    conversation = carrier.conversation
    conversation.leave(time.monotonic())
    while not conversation.is_over:
        polling.step(carrier)
        conversation.take_events()  # what is said to somebody who leaves
    carrier.close("")


def _heard(events: Sequence[Event]) -> Iterator[Entry]:
    for event in events:
        match event:
            case Asked(_, reason):
                raise SendError(reason)
            case Added(talk, entry) if entry.kind is Kind.ERROR:
                complain(entry.text)
                if talk.is_room and not talk.is_entered:
                    raise SendError(f"not in {talk.name}")
            case Added(_, entry) if entry.kind is Kind.MESSAGE and not entry.is_mine:
                yield entry
            case Recalled(_, entries, True):
                yield from (entry for entry in entries if not entry.is_mine)
            case _:
                pass


def complain(text: str) -> None:
    """Say on standard error what went wrong."""
    print(f"prefork-chat: {text}", file=sys.stderr, flush=True)


def as_line(entry: Entry) -> str:
    """Return a message as a line of text: local time, room if any, from whom, what."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
    place = f"{entry.room} " if entry.room else ""
    return f"{when} {place}{entry.sender}: {entry.text}"


def as_json_line(entry: Entry) -> str:
    """Return a message as one JSON object; `room` is null for what was said to us."""
    import json  # noqa: PLC0415 - slow to load, and only for this

    return json.dumps(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.time)),
            "room": entry.room or None,
            "from": entry.sender,
            "text": entry.text,
        },
        ensure_ascii=False,
    )
