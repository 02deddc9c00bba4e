"""The status line and the prompt: where one is talking, what is unread, how the connection is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.client.entrance import Phase

if TYPE_CHECKING:
    from prefork_chat.client.conversation import Conversation
    from prefork_chat.terminal.looks import Piece

_CONNECTION = {
    Phase.AWAY: "no connection",
    Phase.GREETING: "connecting",
    Phase.JOINING: "joining",
    Phase.NAMELESS: "choose a name",
    Phase.LOCKED: "password?",
    Phase.OVER: "good-bye",
}


def prompt_text(conversation: Conversation) -> str:
    """Return what stands before the input: who one is and to whom it will be said."""
    if conversation.phase is Phase.NAMELESS:
        return "your name> "
    place = conversation.talks.current.name
    return f"{conversation.name} → {place}> " if place else f"{conversation.name}> "


def pieces(conversation: Conversation) -> list[Piece]:
    """Return the status line: connection, current talk, unread counts, messages on their way."""
    talks = conversation.talks
    found: list[Piece] = []
    if conversation.phase is Phase.HERE:
        found.append(("class:status", f" {conversation.name} "))
    else:
        found.append(("class:status.alarm", f" {_CONNECTION[conversation.phase]} "))
    current = talks.current
    if current.name:
        counts = conversation.company.has_presence and current.members
        members = f" ({len(current.members)})" if counts else ""
        found.append(("class:status", f"| {current.name}{members} "))
    unread = [talk for talk in talks if talk.unread]
    if unread:
        found.append(("class:status", "| unread:"))
        for talk in unread:
            style = "class:status.alarm" if talk.mentions else "class:status"
            found.append((style, f" {talk.name}:{talk.unread}{'!' if talk.mentions else ''}"))
        found.append(("class:status", " "))
    if conversation.mailbag:
        found.append(("class:status", f"| {len(conversation.mailbag)} on their way "))
    return found
