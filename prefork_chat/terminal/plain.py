"""The plain mode: a prompt at the bottom, and all that comes above it, in the terminal's own.

What has been printed cannot be changed, so a message of ours is printed when it is known what
became of it, or after a second; what becomes known later is said in a line of its own. Printing
makes the prompt go and come back, so what comes is printed together, ten times a second at most.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, Final

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.styles import Style

from prefork_chat.client.entrance import Phase
from prefork_chat.client.entries import Entry, State
from prefork_chat.client.events import Added, Asked, Changed, Event, Question, Recalled
from prefork_chat.client.prompt import Prompt
from prefork_chat.terminal import editing, looks, status
from prefork_chat.terminal.looping import Looping, terminal_may_go

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import AnyFormattedText

    from prefork_chat.terminal.carrier import Carrier

_PRINT_SECONDS: Final = 0.1
_UNKNOWN_SECONDS: Final = 1.0


def run(carrier: Carrier) -> int:
    """Chat until the person leaves; return the exit code."""
    with terminal_may_go(), patch_stdout():
        asyncio.run(_Plain(carrier).run())
    return 0


class _InterruptedError(Exception):
    """The prompt ends, for something else is to be asked, or nothing more."""


class _Plain:
    """One run of the plain mode; owned by the thread of the event loop."""

    def __init__(self, carrier: Carrier) -> None:
        self._conversation = carrier.conversation
        self._prompt = Prompt(carrier.conversation)
        self._looping = Looping(carrier, self._take)
        self._style = Style.from_dict(dict(looks.STYLES))
        self._unprinted: list[list[looks.Piece]] = []
        self._unknown: dict[Entry, float] = {}
        self._printing: asyncio.TimerHandle | None = None
        self._question: Asked | None = None
        keys = KeyBindings()
        editing.bind_tab(keys)
        editing.bind_paste(keys, self._prompt, self._looping.go_on)
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(),
            completer=editing.TalkCompleter(self._conversation),
            complete_while_typing=False,
            erase_when_done=True,
            key_bindings=keys,
            style=self._style,
            bottom_toolbar=self._toolbar,
        )
        self._secret: PromptSession[str] = PromptSession(
            is_password=True, erase_when_done=True, style=self._style
        )

    async def run(self) -> None:
        """Read lines until the conversation is over."""
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(self._read_lines())
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, reading.cancel)
        self._looping.start()
        try:
            await reading
        except asyncio.CancelledError:
            pass
        self._conversation.leave(time.monotonic())
        self._looping.go_on()
        while not self._conversation.is_over:
            await asyncio.sleep(_PRINT_SECONDS)
        self._looping.stop()
        self._print()

    async def _read_lines(self) -> None:
        while not self._conversation.is_over:
            asked, self._question = self._question, None
            try:
                if asked is not None:
                    answer = await self._secret.prompt_async(f"{asked.reason}: ")
                    self._conversation.password_given(answer, time.monotonic())
                else:
                    line = await self._session.prompt_async(self._message)
                    self._prompt.typed(line, time.monotonic())
            except _InterruptedError:
                pass
            except (EOFError, KeyboardInterrupt):
                if asked is None:
                    return
                self._conversation.password_given("", time.monotonic())
            self._looping.go_on()

    def _message(self) -> AnyFormattedText:
        return FormattedText([("class:prompt", status.prompt_text(self._conversation))])

    def _toolbar(self) -> AnyFormattedText:
        return FormattedText(status.pieces(self._conversation))

    def _take(self) -> None:
        """Note what is new; it is printed a moment later."""
        for event in self._conversation.take_events():
            self._note(event)
        if self._printing is None and (self._unprinted or self._unknown):
            loop = asyncio.get_running_loop()
            self._printing = loop.call_later(_PRINT_SECONDS, self._print)
        if self._conversation.is_over:
            self._interrupt()
        elif self._session.app.is_running:
            self._session.app.invalidate()

    def _note(self, event: Event) -> None:
        match event:
            case Added(_, entry) if entry.is_mine:
                self._unknown[entry] = time.monotonic()
            case Added(_, entry):
                self._unprinted.append(looks.pieces(entry, with_place=True))
            case Changed(entry):
                self._learn(entry)
            case Recalled(_, entries, _):
                self._unprinted += [looks.pieces(entry, with_place=True) for entry in entries]
            case Asked(Question.NAME, reason):
                self._unprinted.append([("class:error", f"!! {reason}")])
            case Asked():
                self._question = event
                self._interrupt()

    def _learn(self, entry: Entry) -> None:
        assert entry.state is not None
        if not entry.state.is_final:
            return
        if self._unknown.pop(entry, None) is not None:
            self._unprinted.append(looks.pieces(entry, with_place=True))
        else:
            style = "class:arrived" if entry.state is State.DELIVERED else "class:failed"
            self._unprinted.append([(style, looks.in_words(entry))])

    def _interrupt(self) -> None:
        for session in (self._session, self._secret):
            if session.app.is_running and not session.app.is_done:
                session.app.exit(exception=_InterruptedError())

    def _print(self) -> None:
        self._printing = None
        now = time.monotonic()
        for entry in [e for e, since in self._unknown.items() if now - since > _UNKNOWN_SECONDS]:
            del self._unknown[entry]
            self._unprinted.append(looks.pieces(entry, with_place=True))
        if self._unprinted:
            lines, self._unprinted = self._unprinted, []
            text = FormattedText([piece for line in lines for piece in (*line, ("", "\n"))])
            print_formatted_text(text, style=self._style, end="")
        if self._unknown and self._conversation.phase is not Phase.OVER:
            loop = asyncio.get_running_loop()
            self._printing = loop.call_later(_PRINT_SECONDS, self._print)
