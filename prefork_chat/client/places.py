"""To whom and where something can be said: names of people and of rooms, as text.

The rules are the protocol's (`protocol.names`), whose functions take what is on the wire. Pure.
"""

from __future__ import annotations

from prefork_chat.protocol.names import fold, is_name


def is_room(word: str) -> bool:
    """Say whether `word` can be the name of a room: `#` and what can be a username."""
    return word.startswith("#") and is_person(word[1:])


def is_person(word: str) -> bool:
    """Say whether `word` can be a username."""
    return is_name(word.encode(errors="replace"))


def key_of(name: str) -> str:
    """Return the form in which names and rooms are compared."""
    return fold(name.encode(errors="replace")).decode()
