"""Compare all that a registry says twice: index, free list and count with the slots' states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.registry import layout

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry


def claimed_names(registry: Registry) -> dict[int, bytes]:
    """Name by slot of every claimed slot, live or stale."""
    names = {}
    for slot, state in enumerate(registry._states.tolist()):
        if state > 0:
            start = registry._slots_offset + slot * layout.SLOT_BYTES + layout.NAME_OFFSET
            names[slot] = registry._map[start : start + (registry._owners[slot] & 0xFF)]
    return names


def audit(registry: Registry) -> None:
    """Fail unless the registry is at rest and in order."""
    header = registry._header
    assert registry._write_semaphore.value == 1
    assert header[layout.SEQUENCE] % 2 == 0
    names = claimed_names(registry)
    assert header[layout.COUNT] == len(names)
    assert len({name.lower() for name in names.values()}) == len(names)
    assert all(slot < header[layout.HIGH] for slot in names)
    _audit_index(registry, names)
    free = _free_list(registry)
    assert len(set(free)) == len(free)
    assert set(free) == set(range(header[layout.HIGH])) - set(names)


def _audit_index(registry: Registry, names: dict[int, bytes]) -> None:
    index = registry._index
    tags = index._tags.tolist()
    entries = {index.slots[place]: place for place, tag in enumerate(tags) if tag}
    assert sum(1 for tag in tags if tag) == len(entries), "a slot is listed twice"
    assert set(entries) == set(names)
    for slot, place in entries.items():
        tag = tags[place]
        assert tag == registry._tags[slot] == index.tag(names[slot].lower())
        mask = len(tags) - 1
        way = [(tag + step) & mask for step in range((place - tag) & mask)]
        assert all(tags[passed] for passed in way), "an entry that no reader would come to"


def _free_list(registry: Registry) -> list[int]:
    free = []
    link = registry._header[layout.FREE]
    while link:
        free.append(link - 1)
        assert len(free) <= registry.capacity, "the free list runs in a circle"
        link = registry._owners[link - 1]
    return free
