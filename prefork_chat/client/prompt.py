"""The prompt: carries out what a person types, and shows what comes of it.

Called by every screen with each line that was entered. What scripts need, too, is in
`conversation`; here is what only a person asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.client import typed
from prefork_chat.client.company import first_words
from prefork_chat.client.entrance import Phase
from prefork_chat.client.entries import Kind
from prefork_chat.client.events import Added, Asked, Question, Recalled
from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_chat.client.conversation import Conversation
    from prefork_chat.client.entries import Entry
    from prefork_chat.client.requests import Reply, Then
    from prefork_chat.client.typed import Intent

_NOT_NOW: Final = "not now: there is no connection"


class Prompt:
    """What a person says to a conversation; the same thread owns both."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def typed(self, line: str, now: float) -> None:
        """Take one line that was entered."""
        conversation = self._conversation
        intent = typed.parse(line)
        if conversation.phase is Phase.NAMELESS and isinstance(intent, typed.Say):
            conversation.choose_name(line.strip(), now)
        elif intent is not None:
            conversation.tick(now)
            self._carry_out(intent, now)

    def pasted(self, lines: Sequence[str], now: float) -> None:
        """Say several lines as they are, to where the person is talking."""
        conversation = self._conversation
        for line in lines:
            if line.strip():
                conversation.say(conversation.talks.current.name, line, now)

    def page_back(self, count: int) -> None:
        """Fetch what was said in the current talk before what is here of it."""
        conversation = self._conversation
        talk = conversation.talks.current
        if not talk.name or talk.is_complete or conversation.phase is not Phase.HERE:
            return

        def arrived(entries: list[Entry], complaint: str) -> None:
            if complaint:
                talk.is_complete = True
                conversation.remark(f"no history: {complaint}", talk, is_error=True)
            elif entries:
                conversation.announce(Recalled(talk, entries, is_news=False))

        conversation.recall.page_back(talk, count, arrived)

    def _carry_out(self, intent: Intent, now: float) -> None:  # noqa: C901, PLR0912 - a table
        conversation = self._conversation
        match intent:
            case typed.Say(text, to):
                if to:
                    conversation.talks.enter(to)
                conversation.say(conversation.talks.current.name, text, now)
            case typed.TalkTo(name):
                conversation.talks.enter(name)
            case typed.Enter(room):
                conversation.enter(room)
            case typed.Exit(name):
                self._exit(name)
            case typed.Who(room):
                self._ask(f"WHOS {room}".rstrip(), self._show_people)
            case typed.Rooms():
                self._ask("ROOM", self._show_rooms)
            case typed.History(count):
                self._show_history(count)
            case typed.Find(words):
                self._find(words)
            case typed.SetPassword():
                self._ask_password()
            case typed.Raw(raw):
                self._ask(raw, self._show_reply)
            case typed.Help():
                for command in typed.COMMANDS.values():
                    conversation.remark(f"{command.usage} - {command.explanation}")
            case typed.Quit():
                conversation.leave(now)
            case typed.Mistake(text):
                conversation.remark(text, is_error=True)

    def _ask(self, line: str, then: Then) -> None:
        if self._conversation.phase is Phase.HERE:
            self._conversation.ask(line, then)
        else:
            self._conversation.remark(_NOT_NOW, is_error=True)

    def _ask_password(self) -> None:
        conversation = self._conversation
        if conversation.phase is Phase.HERE:
            reason = f"new password for {conversation.name}"
            conversation.announce(Asked(Question.NEW_PASSWORD, reason))
        elif conversation.phase is Phase.LOCKED:
            conversation.announce(Asked(Question.PASSWORD, f"password of {conversation.name}"))
        else:
            conversation.remark(_NOT_NOW, is_error=True)

    def _exit(self, name: str) -> None:
        talks = self._conversation.talks
        talk = talks.find(name) if name else talks.current
        if talk is None or not talk.name:
            self._conversation.remark("you are not talking there", is_error=True)
        else:
            self._conversation.exit(talk)

    def _show_history(self, count: int) -> None:
        conversation = self._conversation
        talk = conversation.talks.current
        if conversation.phase is not Phase.HERE:
            conversation.remark(_NOT_NOW, is_error=True)
        elif not talk.name:
            conversation.remark("of whom? /msg name, or /join #room", is_error=True)
        elif talk.is_complete:
            conversation.remark("there is nothing older")
        else:
            self.page_back(count)

    def _find(self, words: str) -> None:
        conversation = self._conversation

        def arrived(entries: list[Entry], complaint: str) -> None:
            if complaint:
                conversation.remark(complaint, is_error=True)
                return
            conversation.remark(f"found {len(entries)} with: {words}")
            talk = conversation.talks.current
            for entry in entries:
                entry.kind, entry.row_id = Kind.FOUND, 0
                conversation.talks.add(talk, entry)
                conversation.announce(Added(talk, entry))

        if conversation.phase is Phase.HERE:
            conversation.recall.find(words, arrived)
        else:
            conversation.remark(_NOT_NOW, is_error=True)

    def _show_people(self, reply: Reply) -> None:
        self._conversation.company.note_people(reply)
        names = sorted(first_words(reply.data), key=key_of)
        self._show(reply, f"{len(names)} here: {', '.join(names)}")

    def _show_rooms(self, reply: Reply) -> None:
        self._conversation.company.note_rooms(reply)
        self._show(reply, f"{len(reply.data)} rooms: {', '.join(reply.data)}")

    def _show_reply(self, reply: Reply) -> None:
        for line in reply.data:
            self._conversation.remark(line)
        self._show(reply, f"OK {reply.answer.verb} {reply.answer.text}".rstrip())

    def _show(self, reply: Reply, text: str) -> None:
        if reply.answer.is_ok:
            self._conversation.remark(text)
        else:
            self._conversation.remark(reply.answer.text, is_error=True)
