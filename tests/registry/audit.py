"""Compare all that a registry says twice: index, free list and counts with the slots' words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_chat.registry import layout

if TYPE_CHECKING:
    from prefork_chat.registry.registry import Registry


def claimed_slots(registry: Registry) -> dict[int, bytes]:
    """Name by slot of every claimed slot, b"" for a nameless session; read word by word."""
    slots = registry._slots
    names = {}
    for slot, state in enumerate(slots.states.tolist()):
        if state > 0:
            start = slots._offset + slot * layout.SLOT_BYTES + layout.NAME_OFFSET
            names[slot] = slots._map[start : start + (slots.owners[slot] & layout.BYTE_MASK)]
    return names


def audit(registry: Registry) -> None:
    """Fail unless the registry is at rest and in order."""
    header = registry._header
    assert registry._write_semaphore.value == 1
    assert header[layout.SEQUENCE] % 2 == 0
    claimed = claimed_slots(registry)
    named = {slot: name for slot, name in claimed.items() if name}
    assert registry.claimed == len(claimed)
    assert registry.count == len(named)
    assert len({name.lower() for name in named.values()}) == len(named)
    assert all(slot < header[layout.HIGH] for slot in claimed)
    _audit_index(registry, named)
    free = _free_list(registry)
    assert len(set(free)) == len(free)
    assert set(free) == set(range(header[layout.HIGH])) - set(claimed)


def _audit_index(registry: Registry, names: dict[int, bytes]) -> None:
    index = registry._index
    tags = index._tags.tolist()
    entries = {index.slots[place]: place for place, tag in enumerate(tags) if tag}
    assert sum(1 for tag in tags if tag) == len(entries), "a slot is listed twice"
    assert set(entries) == set(names)
    for slot, place in entries.items():
        tag = tags[place]
        assert tag == registry._slots.tags[slot] == index.tag(names[slot].lower())
        mask = len(tags) - 1
        way = [(tag + step) & mask for step in range((place - tag) & mask)]
        assert all(tags[passed] for passed in way), "an entry that no reader would come to"


def _free_list(registry: Registry) -> list[int]:
    free = []
    link = registry._header[layout.FREE]
    while link:
        free.append(link - 1)
        assert len(free) <= registry.capacity, "the free list runs in a circle"
        link = registry._slots.tags[link - 1]
    return free
