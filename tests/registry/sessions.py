"""What tests do with sessions all the time: let one join, end one, tear a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.registry import layout
from prefork_chat.registry.sessions import Location

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry


def join(registry: Registry, name: bytes, p_id: int = 0, t_id: int = 0) -> Location:
    """A new session under that name; where it is. NameInUse leaves it nameless."""
    slot, generation = registry.claim(p_id, t_id)
    registry.enter(slot, generation, name.lower(), name)
    return Location(p_id, t_id, slot, generation)


def end(registry: Registry, key: bytes) -> None:
    """Free the session that has that name."""
    location = registry.check(key)
    assert location
    assert registry.free(location.slot, location.generation)


def tear(registry: Registry) -> None:
    """As left by a writer who was killed in the middle: nothing is right but the slots' words."""
    header = registry._header
    header[layout.SEQUENCE] += 1
    registry._index.clear()
    header[layout.FREE] = 0
    header[layout.COUNT] = 77
    header[layout.CLAIMED] = 78
