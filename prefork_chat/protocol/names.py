"""What a username, a room and a tag may look like, and when two names are the same.

The rules are narrow on purpose: `#`, `*` and `@` can never begin a name, so that they stay free for
rooms, for everyone and for tags, and a name never needs quoting in a line, in a log or in a file
name. Pure functions of their arguments; they may be called from any thread.
"""

import re
from typing import Final

MAX_NAME_BYTES: Final = 32
"""The longest username, in bytes and in characters: names are ASCII."""

_is_name = re.compile(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,%d}" % (MAX_NAME_BYTES - 1)).fullmatch
_is_room = re.compile(rb"#[A-Za-z0-9][A-Za-z0-9_.-]{0,%d}" % (MAX_NAME_BYTES - 1)).fullmatch
_is_tag = re.compile(rb"[A-Za-z0-9_.-]{1,32}").fullmatch


def is_name(word: bytes) -> bool:
    """Say whether `word` can be a username: 1-32 of `A-Z a-z 0-9 _ . -`, first letter or digit."""
    return _is_name(word) is not None


def is_room(word: bytes) -> bool:
    """Say whether `word` can be a room: `#` and then what can be a username."""
    return _is_room(word) is not None


def fold(name: bytes) -> bytes:
    """Return the key under which `name`, also a room's, is compared: lower-case ASCII."""
    return name.lower()


def is_tag(word: bytes) -> bool:
    """Say whether `word`, without the `@` before it, can be a tag: 1-32 of `A-Z a-z 0-9 _ . -`."""
    return _is_tag(word) is not None
