"""The input line of both screens: history, completion, passwords that nobody sees, long pastes.

Built of prompt_toolkit's parts; what is entered goes to the `Prompt`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.keys import Keys

from prefork_chat.client.completion import complete
from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from prefork_chat.client.conversation import Conversation
    from prefork_chat.client.prompt import Prompt


class TalkCompleter(Completer):
    """Offers commands, and the names and rooms that the conversation knows."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def get_completions(
        self,
        document: Document,
        complete_event: CompleteEvent,  # noqa: ARG002 - the base says so
    ) -> Iterator[Completion]:
        """Yield what can go on from the text before the cursor."""
        conversation = self._conversation
        own = key_of(conversation.name)
        people = conversation.company.people
        names = [name for key, name in reversed(people.items()) if key != own]
        rooms = [*conversation.company.rooms.values()]
        rooms += [t.name for t in conversation.talks if t.is_room and t.name not in rooms]
        for text, replaced in complete(document.text_before_cursor, names, rooms):
            yield Completion(text, start_position=-replaced, display=text.strip())


def bind_tab(keys: KeyBindings) -> None:
    """Complete with Tab, and go through what there is with more of it."""

    @keys.add("tab")
    def _complete(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state:
            buffer.complete_next()
        else:
            buffer.start_completion(select_first=True)

    @keys.add("s-tab")
    def _complete_back(event: KeyPressEvent) -> None:
        if event.current_buffer.complete_state:
            event.current_buffer.complete_previous()


def bind_paste(keys: KeyBindings, prompt: Prompt, then: Callable[[], None]) -> None:
    """Say the lines of a paste as they are; what has no line end stays in the input line."""

    @keys.add(Keys.BracketedPaste)
    def _paste(event: KeyPressEvent) -> None:
        paste(event.current_buffer, event.data, prompt)
        then()


def paste(buffer: Buffer, data: str, prompt: Prompt) -> None:
    """Put pasted text into the input line, and say all whole lines that there are then."""
    text = data.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in text:
        buffer.insert_text(text)
        return
    before = buffer.document.text_before_cursor
    after = buffer.document.text_after_cursor
    *lines, rest = (before + text + after).split("\n")
    buffer.reset()
    prompt.pasted(lines, time.monotonic())
    buffer.insert_text(rest)
