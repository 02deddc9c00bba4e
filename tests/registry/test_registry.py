"""What check, insert, delete, sweep and names promise, one process and one thread."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from prefork_chat.errors import StartError
from prefork_chat.registry import layout
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.registry import Location, NameInUse, Registry, RegistryFull
from tests.registry.audit import audit
from tests.registry.conftest import MakeRegistry, fresh_key
from tests.registry.processes import child, fork, until, wait


def restart(registry: Registry, p_id: int) -> int:
    """End worker `p_id` and begin its successor; the new incarnation."""
    incarnation = abs(registry.table.incarnations[p_id]) + 1
    registry.table.end(p_id)
    registry.table.begin(p_id, incarnation, 1)
    return incarnation


def test_inserted_name_is_found_where_it_is(registry: Registry) -> None:
    location = registry.insert(b"bob", b"Bob", 2, 1, 1)
    assert location == Location(p_id=2, t_id=1, slot=0, generation=1)
    assert registry.check(b"bob") == location
    assert registry.check(b"bo") is None
    assert registry.check(b"bobb") is None
    assert registry.check(b"") is None
    assert registry.names() == [b"Bob"]
    assert registry.count == 1
    audit(registry)


def test_name_in_use_is_refused_whatever_its_case(registry: Registry) -> None:
    registry.insert(b"bob", b"Bob", 0, 0, 1)
    with pytest.raises(NameInUse):
        registry.insert(b"bob", b"bOB", 1, 0, 1)
    assert registry.names() == [b"Bob"]
    audit(registry)


def test_deleted_name_is_free_at_once(registry: Registry) -> None:
    first = registry.insert(b"bob", b"Bob", 0, 0, 1)
    assert registry.delete(first.slot, first.generation)
    assert registry.check(b"bob") is None
    assert registry.names() == []
    second = registry.insert(b"bob", b"BOB", 1, 0, 1)
    assert second.generation == first.generation + 1
    assert registry.names() == [b"BOB"]
    audit(registry)


def test_late_delete_harms_nobody(registry: Registry) -> None:
    first = registry.insert(b"bob", b"bob", 0, 0, 1)
    assert registry.delete(first.slot, first.generation)
    assert not registry.delete(first.slot, first.generation)
    second = registry.insert(b"eve", b"eve", 0, 0, 1)
    assert second.slot == first.slot
    assert not registry.delete(first.slot, first.generation)
    assert registry.check(b"eve") == second
    audit(registry)


@pytest.mark.parametrize("generation", [0, -1, -2, 2])
def test_delete_of_a_free_or_unused_slot_does_nothing(registry: Registry, generation: int) -> None:
    location = registry.insert(b"bob", b"bob", 0, 0, 1)
    registry.delete(location.slot, location.generation)
    for slot in (location.slot, location.slot + 1):
        assert not registry.delete(slot, generation)
    audit(registry)


def test_slot_beyond_the_registry_is_an_error(registry: Registry) -> None:
    with pytest.raises(IndexError):
        registry.delete(registry.capacity, 1)
    audit(registry)


def test_full_registry_says_so_and_goes_on(registry: Registry) -> None:
    locations = [registry.insert(b"n%d" % n, b"N%d" % n, 0, 0, 1) for n in range(8)]
    for _ in range(2):
        with pytest.raises(RegistryFull):
            registry.insert(b"late", b"late", 0, 0, 1)
    assert sorted(registry.names()) == [b"N%d" % n for n in range(8)]
    registry.delete(locations[3].slot, locations[3].generation)
    assert registry.insert(b"late", b"late", 0, 0, 1).slot == locations[3].slot
    audit(registry)


def test_names_of_a_dead_worker_are_free_at_its_end(registry: Registry) -> None:
    registry.insert(b"bob", b"bob", 0, 0, 1)
    eve = registry.insert(b"eve", b"eve", 1, 0, 1)
    registry.table.end(0)
    assert registry.check(b"bob") is None
    assert registry.names() == [b"eve"]
    assert registry.check(b"eve") == eve
    assert registry.count == 2
    audit(registry)


def test_name_of_a_dead_worker_can_be_taken_before_any_sweep(registry: Registry) -> None:
    old = registry.insert(b"bob", b"Bob", 0, 0, 1)
    registry.table.end(0)
    new = registry.insert(b"bob", b"BOB", 1, 1, 1)
    assert new == Location(1, 1, old.slot, old.generation + 1)
    assert registry.check(b"bob") == new
    assert not registry.delete(old.slot, old.generation)
    assert registry.names() == [b"BOB"]
    audit(registry)


def test_name_of_a_dead_worker_can_be_taken_by_its_successor(registry: Registry) -> None:
    old = registry.insert(b"bob", b"bob", 0, 0, 1)
    incarnation = restart(registry, 0)
    new = registry.insert(b"bob", b"bob", 0, 0, incarnation)
    assert new.slot == old.slot
    assert registry.sweep(0, incarnation) == 0
    assert registry.check(b"bob") == new
    audit(registry)


def test_sweep_frees_what_earlier_incarnations_left_and_nothing_else(registry: Registry) -> None:
    for name in (b"a", b"b", b"c"):
        registry.insert(name, name, 0, 0, 1)
    eve = registry.insert(b"eve", b"eve", 1, 0, 1)
    incarnation = restart(registry, 0)
    fresh = registry.insert(b"b", b"b", 0, 1, incarnation)
    assert registry.sweep(0, incarnation) == 2
    assert registry.sweep(0, incarnation) == 0
    assert sorted(registry.names()) == [b"b", b"eve"]
    assert registry.check(b"b") == fresh
    assert registry.check(b"eve") == eve
    assert registry.count == 2
    audit(registry)


def test_registry_full_of_dead_sessions_makes_room_by_itself(registry: Registry) -> None:
    for n in range(8):
        registry.insert(b"n%d" % n, b"n%d" % n, n % 2, 0, 1)
    registry.table.end(0)
    registry.insert(b"new", b"new", 1, 0, 1)
    assert registry.count == 5
    assert sorted(registry.names()) == sorted([b"n1", b"n3", b"n5", b"n7", b"new"])
    audit(registry)


def test_full_registry_makes_room_after_every_death(registry: Registry) -> None:
    """What has been swept once is not taken for swept when the same worker dies again."""
    for _ in range(3):
        incarnation = restart(registry, 0)
        for n in range(8):
            registry.insert(b"n%d" % n, b"n%d" % n, 0, 0, incarnation)
        with pytest.raises(RegistryFull):
            registry.insert(b"new", b"new", 1, 0, 1)
        registry.table.end(0)
        new = registry.insert(b"new", b"new", 1, 0, 1)
        assert registry.delete(new.slot, new.generation)
        audit(registry)


@pytest.mark.parametrize(
    ("key", "name", "p_id", "t_id"),
    [
        (b"Bob", b"Bob", 0, 0),
        (b"bob", b"alice", 0, 0),
        (b"", b"", 0, 0),
        (b"x" * 33, b"x" * 33, 0, 0),
        (b"bob", b"bob", 3, 0),
        (b"bob", b"bob", -1, 0),
        (b"bob", b"bob", 0, 2),
        (b"bob", b"bob", 0, -1),
    ],
)
def test_misuse_is_an_error_and_changes_nothing(
    registry: Registry, key: bytes, name: bytes, p_id: int, t_id: int
) -> None:
    with pytest.raises(ValueError, match=r"key|loop"):
        registry.insert(key, name, p_id, t_id, 1)
    assert registry.count == 0
    audit(registry)


def test_longest_name_fits_and_leaves_nothing_to_a_shorter_one(registry: Registry) -> None:
    long = registry.insert(b"x" * 32, b"X" * 32, 0, 0, 1)
    assert registry.names() == [b"X" * 32]
    registry.delete(long.slot, long.generation)
    registry.insert(b"y", b"y", 0, 0, 1)
    assert registry.names() == [b"y"]
    assert registry.check(b"x" * 32) is None


def test_highest_p_id_and_t_id_come_back(make_registry: MakeRegistry) -> None:
    registry = make_registry(4, 256, 256)
    location = registry.insert(b"bob", b"bob", 255, 255, 1)
    assert (location.p_id, location.t_id) == (255, 255)
    assert registry.check(b"bob") == location


def test_names_whose_tags_collide_are_told_apart(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.registry.index.NameIndex.tag", lambda *_: 7)
    locations = {name: registry.insert(name, name, 0, 0, 1) for name in (b"a", b"b", b"c", b"d")}
    assert {name: registry.check(name) for name in locations} == locations
    with pytest.raises(NameInUse):
        registry.insert(b"c", b"c", 1, 0, 1)
    for name in (b"b", b"a", b"d"):
        location = locations.pop(name)
        assert registry.delete(location.slot, location.generation)
        assert registry.check(name) is None
        assert {other: registry.check(other) for other in locations} == locations
        audit(registry)


def test_tags_depend_on_the_random_key_of_the_memory(make_registry: MakeRegistry) -> None:
    tags = {make_registry()._index.tag(b"bob") for _ in range(3)}
    assert len(tags) == 3


def test_memory_too_small_is_refused(make_registry: MakeRegistry, semaphore: Semaphore) -> None:
    memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", 4096)
    with pytest.raises(ValueError, match="needed"):
        Registry.create(memory, semaphore, 100, 1, 1)
    memory.close()


def test_memory_of_another_version_is_refused(semaphore: Semaphore) -> None:
    size = layout.total_bytes(8, 1, 1)
    memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", size)
    Registry.create(memory, semaphore, 8, 1, 1).close()
    Registry(memory, semaphore).close()
    memory.map[8] += 1
    with pytest.raises(StartError):
        Registry(memory, semaphore)
    memory.close()


def test_second_view_of_the_memory_sees_the_same(registry: Registry) -> None:
    """As after an exec that hands the descriptor on."""
    bob = registry.insert(b"bob", b"bob", 0, 0, 1)
    size = layout.total_bytes(8, 3, 2)
    # The mapping duplicates the descriptor; find it as a handed-on one would be.
    memory = SharedMemory(_descriptor_of(registry), size)
    other = Registry(memory, registry._write_semaphore)
    assert other.check(b"bob") == bob
    assert other.capacity == registry.capacity
    other.close()
    memory.close()


def _descriptor_of(registry: Registry) -> int:
    address = _mapping(registry).split()[4]
    for fd in os.listdir("/proc/self/fd"):
        try:
            if str(os.stat(int(fd)).st_ino) == address:
                return os.dup(int(fd))
        except OSError:
            continue
    raise AssertionError("no descriptor of the memory")


def _mapping(registry: Registry) -> str:
    """Head and body of the memory's part of /proc/self/smaps."""
    maps = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text("ascii"))
    [found] = [part for part in maps if "prefork-chat-test" in part]
    return found


def test_memory_of_free_slots_is_not_resident(make_registry: MakeRegistry) -> None:
    """Idle capacity costs no PSS: pages are touched from the lowest slot up, and only when used."""
    registry = make_registry(20_000, 4, 2)
    for n in range(100):
        registry.insert(b"n%d" % n, b"n%d" % n, 0, 0, 1)
    resident = re.search(r"^Rss: +(\d+) kB$", _mapping(registry), re.MULTILINE)
    assert resident
    # 100 slots, and up to one page of 4 KiB of tags and one of index slots for each name.
    slots_kb = 100 * layout.SLOT_BYTES // 1024 + 8
    assert int(resident[1]) <= 100 * 8 + slots_kb + 16


def test_writer_pid_is_that_of_the_process_that_holds_the_registry(registry: Registry) -> None:
    def hold() -> None:
        registry._write_semaphore.acquire()
        until(lambda: False)

    assert registry.writer_pid() == 0
    with child(hold) as pid:
        until(lambda: registry.writer_pid() == pid)
    assert registry.writer_pid() == 0


def test_hit_needs_no_lock_and_no_even_sequence(registry: Registry) -> None:
    bob = registry.insert(b"bob", b"bob", 0, 0, 1)
    with registry._write_semaphore:
        registry._header[layout.SEQUENCE] += 1
        assert registry.check(b"bob") == bob
        assert registry.names() == [b"bob"]
        registry._header[layout.SEQUENCE] += 1
        assert registry.check(b"eve") is None


def test_reader_in_doubt_waits_for_the_writer(registry: Registry) -> None:
    def write() -> None:
        with registry._write_semaphore:
            registry._header[layout.SEQUENCE] += 1
            until(lambda: registry._write_semaphore._waiting.waiting_for_nonzero)
            registry._header[layout.SEQUENCE] += 1

    with child(write) as pid:
        until(lambda: registry._header[layout.SEQUENCE])
        assert registry.check(b"eve") is None
        assert wait(pid) == 0
    audit(registry)


def test_object_is_inherited_by_fork(registry: Registry) -> None:
    bob = registry.insert(b"bob", b"bob", 0, 0, 1)

    def replace_bob() -> None:
        assert registry.check(b"bob") == bob
        assert registry.delete(bob.slot, bob.generation)
        registry.insert(b"eve", b"eve", 1, 0, 1)

    assert wait(fork(replace_bob)) == 0
    assert registry.names() == [b"eve"]
    audit(registry)
