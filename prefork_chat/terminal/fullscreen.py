"""The full screen: message list, status line, input line.

The screen is drawn anew after a key at once, and for what comes at most ten times a second, so that
a flood costs little and typing is not held up. Nothing is decided here but keys and what the input
line is used for at the moment: to talk, to search, or for a password.
"""

from __future__ import annotations

import asyncio
import signal
import time
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import (
    BeforeInput,
    ConditionalProcessor,
    PasswordProcessor,
)
from prompt_toolkit.styles import Style

from prefork_chat.client.events import Asked, Question, Recalled
from prefork_chat.client.prompt import Prompt
from prefork_chat.terminal import editing, looks, status
from prefork_chat.terminal.looping import Looping, terminal_may_go
from prefork_chat.terminal.messages import MessageList

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.key_binding import KeyPressEvent

    from prefork_chat.terminal.carrier import Carrier

_DRAW_SECONDS: Final = 0.1
_PAGE: Final = 50
_MOST_SEARCHED_PAGES: Final = 20


class _Use(Enum):
    """What the input line is for."""

    TALK = auto()
    SEARCH = auto()
    PASSWORD = auto()


def run(carrier: Carrier) -> int:
    """Chat until the person leaves or the terminal goes; return the exit code."""
    with terminal_may_go():
        asyncio.run(FullScreen(carrier).run())
    return 0


class _History(InMemoryHistory):
    """What was typed, for Up; nothing of it while `is_kept` says no."""

    def __init__(self, is_kept: Callable[[], bool]) -> None:
        super().__init__()
        self._is_kept = is_kept

    def append_string(self, string: str) -> None:
        """Add a line that was entered."""
        if self._is_kept():
            super().append_string(string)


class FullScreen:
    """One run of the full screen; owned by the thread of the event loop."""

    def __init__(self, carrier: Carrier) -> None:
        self._conversation = carrier.conversation
        self._prompt = Prompt(carrier.conversation)
        self._looping = Looping(carrier, self._take)
        self._messages = MessageList(self._conversation.talks)
        self._use = _Use.TALK
        self._asked = ""
        self._pages_to_search = 0
        self._drawing: asyncio.TimerHandle | None = None
        self._buffer = Buffer(
            history=_History(lambda: self._use is _Use.TALK),
            completer=editing.TalkCompleter(self._conversation),
            complete_while_typing=False,
            multiline=False,
            accept_handler=self._entered,
        )
        self._application: Application[None] = Application(
            layout=Layout(self._container(), focused_element=self._buffer),
            key_bindings=self._keys(),
            style=Style.from_dict(dict(looks.STYLES)),
            full_screen=True,
            enable_page_navigation_bindings=False,
        )
        self._application.ttimeoutlen = 0.05

    async def run(self) -> None:
        """Show it until the conversation is over or a signal ends it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._quit)
        try:
            await self._application.run_async(pre_run=self._looping.start)
        finally:
            self._looping.stop()

    # What is shown

    def _container(self) -> FloatContainer:
        is_secret = Condition(lambda: self._use is _Use.PASSWORD)
        line = BufferControl(
            self._buffer,
            input_processors=[
                ConditionalProcessor(PasswordProcessor(), is_secret),
                BeforeInput(self._label, style="class:prompt"),
            ],
        )
        has_much = Condition(lambda: not self._messages.is_following)
        return FloatContainer(
            HSplit(
                [
                    Window(self._messages, wrap_lines=False),
                    ConditionalContainer(
                        Window(
                            FormattedTextControl(
                                [("class:status", " older messages: PageDown goes on ")]
                            ),
                            height=1,
                            style="class:status",
                        ),
                        has_much,
                    ),
                    Window(FormattedTextControl(self._status), height=1, style="class:status"),
                    Window(
                        line,
                        height=Dimension(min=1, max=4),
                        wrap_lines=True,
                        dont_extend_height=True,
                    ),
                ]
            ),
            floats=[Float(CompletionsMenu(max_height=8), xcursor=True, ycursor=True)],
        )

    def _status(self) -> StyleAndTextTuples:
        return [*status.pieces(self._conversation)]

    def _label(self) -> str:
        match self._use:
            case _Use.TALK:
                return status.prompt_text(self._conversation)
            case _Use.SEARCH:
                return "search (Enter: older, Esc: end): "
            case _Use.PASSWORD:
                return f"{self._asked}: "

    def _take(self) -> None:
        """Take what is new, and draw it a moment later."""
        for event in self._conversation.take_events():
            match event:
                case Asked(Question.NAME, reason):
                    self._conversation.remark(reason, is_error=True)
                case Asked(_, reason):
                    self._asked = reason
                    self._use_line(_Use.PASSWORD)
                case Recalled() if self._pages_to_search:
                    self._search()
                case _:
                    pass
        if self._conversation.is_over:
            if self._application.is_running and not self._application.is_done:
                self._application.exit()
        elif self._drawing is None:
            loop = asyncio.get_running_loop()
            self._drawing = loop.call_later(_DRAW_SECONDS, self._draw)

    def _draw(self) -> None:
        self._drawing = None
        self._application.invalidate()

    # What is entered

    def _entered(self, buffer: Buffer) -> bool:
        text = buffer.text
        now = time.monotonic()
        match self._use:
            case _Use.TALK:
                self._messages.follow()
                buffer.append_to_history()  # now: the line may be used for something else next
                self._prompt.typed(text, now)
            case _Use.SEARCH:
                if not text:
                    self._use_line(_Use.TALK)
                else:
                    self._pages_to_search = _MOST_SEARCHED_PAGES
                    self._search(text)
                return True  # the text stays, for the next one
            case _Use.PASSWORD:
                self._use_line(_Use.TALK)
                self._conversation.password_given(text, now)
        self._looping.go_on()
        return False

    def _use_line(self, use: _Use) -> None:
        self._use = use
        self._buffer.reset()
        self._messages.searched = ""
        self._pages_to_search = 0

    def _search(self, text: str = "") -> None:
        """Search on, first in what is here, then in one page of the history after the other."""
        if self._messages.search(text or self._messages.searched):
            self._pages_to_search = 0
        elif self._pages_to_search and not self._conversation.talks.current.is_complete:
            self._pages_to_search -= 1
            self._prompt.page_back(_PAGE)

    def _quit(self) -> None:
        self._conversation.leave(time.monotonic())
        self._looping.go_on()

    # Keys

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        editing.bind_tab(keys)
        editing.bind_paste(keys, self._prompt, self._looping.go_on)
        is_other_use = Condition(lambda: self._use is not _Use.TALK)
        keys.add("escape", eager=True, filter=is_other_use)(lambda _: self._cancel())
        for names, action in (
            (("pageup",), self._page_up),
            (("pagedown",), self._messages.page_down),
            (("c-f",), self._begin_search),
            (("c-n",), partial(self._turn_to, 1)),
            (("c-p",), partial(self._turn_to, -1)),
            (("escape", "a"), self._turn_to_unread),
            (("c-c",), self._cancel),
            (("c-d",), self._cancel),
        ):
            keys.add(*names)(_ignoring_event(action))
        return keys

    def _page_up(self) -> None:
        if not self._messages.page_up():
            self._prompt.page_back(_PAGE)
            self._looping.go_on()

    def _begin_search(self) -> None:
        if self._use is _Use.TALK:
            self._use_line(_Use.SEARCH)

    def _cancel(self) -> None:
        """End what the input line is used for; if there is nothing to end, leave."""
        if self._use is _Use.TALK and not self._buffer.text:
            self._quit()
            return
        was_asked = self._use is _Use.PASSWORD
        self._use_line(_Use.TALK)
        if was_asked:
            self._conversation.password_given("", time.monotonic())
            self._looping.go_on()

    def _turn_to_unread(self) -> None:
        unread = [talk for talk in self._conversation.talks if talk.unread]
        if unread:
            wanted = max(unread, key=lambda talk: (talk.mentions > 0, talk.unread))
            self._conversation.talks.enter(wanted.name)

    def _turn_to(self, step: int) -> None:
        talks = self._conversation.talks
        names = [talk.name for talk in talks]
        if names:
            at = names.index(talks.current.name) if talks.current.name in names else -step
            talks.enter(names[(at + step) % len(names)])


def _ignoring_event(action: Callable[[], object]) -> Callable[[KeyPressEvent], None]:
    def handle(_event: KeyPressEvent) -> None:
        action()

    return handle
