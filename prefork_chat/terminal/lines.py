"""The line mode: for terminals that can only show lines, and for no terminal at all.

What is typed is shown by the terminal itself, so of our own messages only those are mentioned that
were not delivered at once. It needs nothing but the standard library.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from typing import TYPE_CHECKING, Final

from prefork_chat.client.entrance import Phase
from prefork_chat.client.entries import Entry, State
from prefork_chat.client.events import Added, Asked, Changed, Event, Question, Recalled
from prefork_chat.client.prompt import Prompt
from prefork_chat.errors import SendError
from prefork_chat.terminal import looks, polling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.terminal.carrier import Carrier

_STDIN: Final = 0
_READ_BYTES: Final = 65536


def run(carrier: Carrier) -> int:
    """Chat until the person leaves or the input ends; return the exit code."""
    conversation = carrier.conversation
    prompt = Prompt(conversation)
    rest, has_input = b"", True
    try:
        while not conversation.is_over:
            wants_input = has_input and (
                conversation.entrance.has_joined or conversation.phase is Phase.NAMELESS
            )
            ready = polling.step(carrier, [_STDIN] if wants_input else [])
            _show(carrier, conversation.take_events())
            if _STDIN not in ready:
                continue
            data = os.read(_STDIN, _READ_BYTES)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                prompt.typed(line.decode(errors="replace"), time.monotonic())
            if not data:
                has_input = False
                conversation.leave(time.monotonic())
    except KeyboardInterrupt:
        conversation.leave(time.monotonic())
        conversation.leave(time.monotonic())
    _show(carrier, conversation.take_events())
    carrier.close("")
    return 0


def _show(carrier: Carrier, events: Sequence[Event]) -> None:
    for event in events:
        match event:
            case Added(_, entry) if not entry.is_mine:
                _print(looks.plain(entry))
            case Changed(entry) if _is_worth_saying(entry):
                _print(looks.in_words(entry))
            case Recalled(_, entries, _):
                for entry in entries:
                    _print(looks.plain(entry))
            case Asked(question, reason):
                _ask(carrier, question, reason)
            case _:
                pass
    sys.stdout.flush()


def _ask(carrier: Carrier, question: Question, reason: str) -> None:
    if question is Question.NAME:
        _print(f"!! {reason}")
        _print("another name:")
        return
    if not sys.stdin.isatty():
        raise SendError(reason)
    _print(reason)
    carrier.conversation.password_given(getpass.getpass("password: "), time.monotonic())


def _is_worth_saying(entry: Entry) -> bool:
    is_late = entry.state is State.DELIVERED and entry.is_repeated
    return is_late or entry.state in (State.STORED, State.FAILED, State.UNSURE)


def _print(text: str) -> None:
    print(text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding))
