"""The company: whom and what we have heard of, for completion and for who is in a room.

Called by `conversation` with lists that it asked for, with presence, and with whoever speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat.client.places import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefork_chat.client.requests import Reply
    from prefork_chat.client.talks import Talk
    from prefork_chat.client.wire import Presence

_SHOWN_NAMES: Final = 10


class Company:
    """People and rooms by key, as they are written. Of people, who spoke last is last."""

    def __init__(self) -> None:
        self.people: dict[str, str] = {}
        self.rooms: dict[str, str] = {}
        self.has_presence = False

    def note_extras(self, reply: Reply) -> None:
        """Note whether the server tells who comes and goes, so that lists of members stay true."""
        self.has_presence = reply.answer.is_ok and "pres" in reply.answer.text.split()

    def meet(self, name: str) -> None:
        """Note that somebody speaks, or is here."""
        key = key_of(name)
        self.people.pop(key, None)
        self.people[key] = name

    def note_people(self, reply: Reply) -> None:
        """Remember whom a WHOS has listed, behind those who have spoken."""
        self.people = {key_of(name): name for name in first_words(reply.data)} | self.people

    def note_rooms(self, reply: Reply) -> None:
        """Remember which rooms a ROOM has listed."""
        self.rooms |= {key_of(name): name for name in first_words(reply.data)}

    def note_members(self, talk: Talk, reply: Reply) -> None:
        """Remember whom the WHOS of a room has listed."""
        talk.is_counted = True
        talk.members |= {key_of(name): name for name in first_words(reply.data)}

    def note_presence(self, talk: Talk, presence: Presence) -> str:
        """Note who has come and gone; return it in words, "" if that is no news."""
        changed = []
        for name in presence.names:
            if presence.is_here:
                self.meet(name)
                if key_of(name) not in talk.members:
                    changed.append(name)
                talk.members[key_of(name)] = name
            elif talk.members.pop(key_of(name), None) is not None:
                changed.append(name)
        if not changed or not talk.is_counted:
            return ""
        return f"{'here' if presence.is_here else 'gone'}: {_some(changed)}"


def first_words(lines: Iterable[str]) -> list[str]:
    """Return the first word of each line that has one."""
    return [words[0] for line in lines if (words := line.split())]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more
