"""What the registry's methods promise, one process and one thread."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from prefork_chat.errors import StartError
from prefork_chat.registry import layout
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.registry import Registry
from prefork_chat.registry.sessions import Location, NameInUse, RegistryFull
from prefork_chat.registry.slots import Held
from tests.registry.audit import audit
from tests.registry.conftest import MakeRegistry, fresh_key
from tests.registry.processes import child, fork, until, wait
from tests.registry.sessions import join


def test_claimed_slot_has_an_owner_and_no_name(registry: Registry) -> None:
    assert registry.claim(2, 1) == (0, 1)
    assert registry.owner(0) == (1, 2, 1)
    assert registry.generations[0] == 1
    assert registry.sessions() == [Held(0, 1, 2, 1, b"", 0)]
    assert registry.names() == []
    assert (registry.count, registry.claimed) == (0, 1)
    audit(registry)


def test_name_is_found_where_its_session_is(registry: Registry) -> None:
    slot, generation = registry.claim(2, 1)
    registry.enter(slot, generation, b"bob", b"Bob")
    assert registry.check(b"bob") == Location(p_id=2, t_id=1, slot=0, generation=1)
    assert registry.check(b"bo") is None
    assert registry.check(b"bobb") is None
    assert registry.check(b"") is None
    assert registry.names() == [b"Bob"]
    assert registry.sessions() == [Held(0, 1, 2, 1, b"Bob", 0)]
    assert (registry.count, registry.claimed) == (1, 1)
    audit(registry)


def test_name_in_use_is_refused_whatever_its_case(registry: Registry) -> None:
    join(registry, b"Bob")
    slot, generation = registry.claim(1, 0)
    with pytest.raises(NameInUse):
        registry.enter(slot, generation, b"bob", b"bOB")
    assert registry.names() == [b"Bob"]
    registry.enter(slot, generation, b"eve", b"Eve")
    assert sorted(registry.names()) == [b"Bob", b"Eve"]
    audit(registry)


def test_session_has_one_name_at_a_time(registry: Registry) -> None:
    bob = join(registry, b"bob")
    for name in (b"bob", b"eve"):
        with pytest.raises(ValueError, match="a name already"):
            registry.enter(bob.slot, bob.generation, name, name)
    assert registry.names() == [b"bob"]
    audit(registry)


def test_withdrawn_name_is_free_at_once_and_the_slot_stays(registry: Registry) -> None:
    bob = join(registry, b"bob", 1, 1)
    assert registry.withdraw(bob.slot, bob.generation)
    assert not registry.withdraw(bob.slot, bob.generation)
    assert registry.check(b"bob") is None
    assert registry.names() == []
    assert registry.owner(bob.slot) == (bob.generation, 1, 1)
    assert (registry.count, registry.claimed) == (0, 1)
    other = join(registry, b"BOB")
    assert other.slot != bob.slot
    assert registry.check(b"bob") == other
    audit(registry)


def test_session_may_enter_again_under_another_name(registry: Registry) -> None:
    bob = join(registry, b"bob", 1, 1)
    registry.withdraw(bob.slot, bob.generation)
    registry.enter(bob.slot, bob.generation, b"eve", b"Eve")
    assert registry.check(b"eve") == bob
    assert registry.check(b"bob") is None
    audit(registry)


def test_freed_slot_and_its_name_are_free_at_once(registry: Registry) -> None:
    first = join(registry, b"Bob")
    assert registry.free(first.slot, first.generation)
    assert registry.check(b"bob") is None
    assert registry.owner(first.slot) is None
    assert registry.names() == []
    assert registry.sessions() == []
    assert (registry.count, registry.claimed) == (0, 0)
    second = join(registry, b"BOB", 1)
    assert second == Location(1, 0, first.slot, first.generation + 1)
    assert registry.names() == [b"BOB"]
    audit(registry)


def test_released_session_goes_to_the_first_who_takes_it_over(registry: Registry) -> None:
    bob = join(registry, b"Bob")
    registry.progress[bob.slot] = 1 << 40 | 1 << 31 | 5
    word = registry.owners[bob.slot]
    held = registry.take_over(bob.slot, bob.generation, 2, 1, 1 << 31)
    assert held == Held(bob.slot, bob.generation, 2, 1, b"Bob", 1 << 40 | 5)
    assert registry.sessions() == [held]
    assert registry.owners[bob.slot] != word
    assert registry.take_over(bob.slot, bob.generation, 1, 1, 1 << 31) is None
    assert registry.sessions() == [held]
    assert registry.check(b"bob") == Location(2, 1, bob.slot, bob.generation)
    audit(registry)


def test_session_is_not_taken_over_unless_it_is_released_and_lives(registry: Registry) -> None:
    slot, generation = registry.claim(1, 1)
    registry.progress[slot] = 1 << 30
    assert registry.take_over(slot, generation, 2, 1, 1 << 31) is None
    registry.progress[slot] = 1 << 31
    assert registry.take_over(slot, generation + 1, 2, 1, 1 << 31) is None
    registry.free(slot, generation)
    assert registry.take_over(slot, generation, 2, 1, 1 << 31) is None
    assert registry.owner(slot) is None
    with pytest.raises(ValueError, match="no loop"):
        registry.take_over(slot, generation, 3, 0, 1 << 31)


def test_loop_of_a_session_is_known_as_long_as_it_lives(registry: Registry) -> None:
    slot, generation = registry.claim(1, 1)
    assert registry.loop_of(slot, generation) == (1, 1)
    registry.move(slot, generation, 2, 0)
    assert registry.loop_of(slot, generation) == (2, 0)
    registry.free(slot, generation)
    assert registry.loop_of(slot, generation) is None
    registry.claim(0, 1)
    assert registry.loop_of(slot, generation) is None
    assert registry.loop_of(slot, generation + 1) == (0, 1)


def test_moved_session_is_found_at_its_new_loop(registry: Registry) -> None:
    bob = join(registry, b"Bob", 0, 0)
    registry.progress[bob.slot] = -5
    nameless = registry.claim(0, 1)
    assert registry.move(bob.slot, bob.generation, 2, 1)
    assert registry.move(*nameless, 1, 0)
    assert registry.check(b"bob") == Location(2, 1, bob.slot, bob.generation)
    assert registry.sessions() == [Held(0, 1, 2, 1, b"Bob", -5), Held(1, 1, 1, 0, b"", 0)]
    assert registry.owner(1) == (1, 1, 0)
    audit(registry)


def test_progress_of_a_new_session_is_zero(registry: Registry) -> None:
    slot, generation = registry.claim(0, 0)
    registry.progress[slot] = 2**63 - 1
    assert registry.sessions()[0].progress == 2**63 - 1
    registry.free(slot, generation)
    registry.claim(0, 0)
    assert registry.sessions()[0].progress == 0


def test_late_progress_of_a_freed_session_harms_no_free_list(registry: Registry) -> None:
    ended = [registry.claim(0, 0) for _ in range(3)]
    for slot, generation in ended:
        registry.free(slot, generation)
        registry.progress[slot] = 12345
    audit(registry)
    assert sorted(registry.claim(0, 0)[0] for _ in range(3)) == [0, 1, 2]


def test_late_comer_harms_nobody(registry: Registry) -> None:
    first = join(registry, b"bob")
    assert registry.free(first.slot, first.generation)
    second = join(registry, b"eve")
    assert second.slot == first.slot
    assert not registry.free(first.slot, first.generation)
    assert not registry.withdraw(first.slot, first.generation)
    assert not registry.move(first.slot, first.generation, 1, 1)
    with pytest.raises(ValueError, match="not that of session"):
        registry.enter(first.slot, first.generation, b"bob", b"bob")
    assert registry.check(b"eve") == second
    assert registry.names() == [b"eve"]
    audit(registry)


@pytest.mark.parametrize("generation", [0, -1, -2, 2])
def test_nobody_has_a_free_or_unused_slot(registry: Registry, generation: int) -> None:
    location = join(registry, b"bob")
    registry.free(location.slot, location.generation)
    for slot in (location.slot, location.slot + 1):
        assert not registry.free(slot, generation)
        assert not registry.withdraw(slot, generation)
        assert not registry.move(slot, generation, 0, 0)
        assert registry.owner(slot) is None
    audit(registry)


@pytest.mark.parametrize("slot", [-1, 8])
def test_slot_that_does_not_exist_is_an_error(registry: Registry, slot: int) -> None:
    """-1 is what a connection without a slot has: it must not be the last slot's session."""
    for _ in range(8):
        registry.claim(0, 0)
    with pytest.raises(IndexError):
        registry.free(slot, 1)
    with pytest.raises(IndexError):
        registry.withdraw(slot, 1)
    with pytest.raises(IndexError):
        registry.move(slot, 1, 0, 0)
    with pytest.raises(IndexError):
        registry.enter(slot, 1, b"bob", b"bob")
    assert registry.claimed == 8
    audit(registry)


def test_full_registry_says_so_and_goes_on(registry: Registry) -> None:
    locations = [join(registry, b"N%d" % number) for number in range(8)]
    for _ in range(2):
        with pytest.raises(RegistryFull):
            registry.claim(0, 0)
    assert registry.claim_all(0, [0, 1]) == []
    assert sorted(registry.names()) == [b"N%d" % number for number in range(8)]
    registry.free(locations[3].slot, locations[3].generation)
    assert registry.claim(0, 0) == (locations[3].slot, 2)
    audit(registry)


def test_several_sessions_come_and_go_at_once(registry: Registry) -> None:
    claimed = registry.claim_all(1, [0, 1, 1])
    assert [registry.owner(slot) for slot, _ in claimed] == [(1, 1, 0), (1, 1, 1), (1, 1, 1)]
    assert len(registry.claim_all(2, [0] * 8)) == 5
    assert registry.free_all(claimed) == 3
    assert registry.free_all(claimed) == 0
    assert registry.claimed == 5
    audit(registry)


def test_sessions_and_names_of_a_dead_worker_stay(registry: Registry) -> None:
    bob = join(registry, b"bob", 1, 1)
    registry.claim(1, 0)
    before = registry.sessions()
    registry.table.end(1)
    registry.table.begin(1, 2, 1)
    assert registry.check(b"bob") == bob
    assert registry.sessions() == before
    audit(registry)


def test_worker_that_was_never_started_can_own_sessions(registry: Registry) -> None:
    """A session is moved to whom its owner says; the registry asks nobody whether he lives."""
    registry.table.end(2)
    bob = join(registry, b"bob", 0, 0)
    assert registry.move(bob.slot, bob.generation, 2, 0)
    assert registry.check(b"bob") == Location(2, 0, bob.slot, bob.generation)


def test_owner_word_tells_a_cached_route_from_an_old_one(registry: Registry) -> None:
    """Whatever happens to a session, generation or owner word is not what it was."""

    def route() -> tuple[int, int]:
        return registry.generations[0], registry.owners[0]

    seen = []
    for name in (b"Bob", b"Eve"):
        slot, generation = registry.claim(0, 0)
        seen.append(route())
        registry.enter(slot, generation, name.lower(), name)
        seen.append(route())
        registry.move(slot, generation, 1, 0)
        seen.append(route())
        registry.withdraw(slot, generation)
        seen.append(route())
        registry.enter(slot, generation, b"zoe", b"Zoe")
        seen.append(route())
        registry.free(slot, generation)
        seen.append(route())
    assert len(set(seen)) == len(seen) == 12


def test_namings_begin_anew_after_the_last(registry: Registry) -> None:
    registry._slots.owners[0] = layout.NAMING_MASK
    bob = join(registry, b"Bob", 2, 1)
    assert registry._slots.owners[0] >> layout.NAMING_SHIFT == 1
    registry._slots.owners[0] |= layout.NAMING_MASK
    assert registry.check(b"bob") == bob
    assert registry.withdraw(bob.slot, bob.generation)
    assert registry._slots.owners[0] >> layout.NAMING_SHIFT == 0
    assert registry.owner(0) == (1, 2, 1)
    audit(registry)


@pytest.mark.parametrize(
    ("key", "name"), [(b"Bob", b"Bob"), (b"bob", b"alice"), (b"", b""), (b"x" * 33, b"x" * 33)]
)
def test_name_that_is_none_is_an_error_and_changes_nothing(
    registry: Registry, key: bytes, name: bytes
) -> None:
    slot, generation = registry.claim(0, 0)
    with pytest.raises(ValueError, match="key"):
        registry.enter(slot, generation, key, name)
    assert registry.count == 0
    audit(registry)


@pytest.mark.parametrize(("p_id", "t_id"), [(3, 0), (-1, 0), (0, 2), (0, -1)])
def test_loop_that_does_not_exist_is_an_error_and_changes_nothing(
    registry: Registry, p_id: int, t_id: int
) -> None:
    with pytest.raises(ValueError, match="loop"):
        registry.claim(p_id, t_id)
    assert registry.claimed == 0
    slot, generation = registry.claim(1, 1)
    with pytest.raises(ValueError, match="loop"):
        registry.move(slot, generation, p_id, t_id)
    assert registry.owner(slot) == (generation, 1, 1)
    audit(registry)


def test_longest_name_fits_and_leaves_nothing_to_a_shorter_one(registry: Registry) -> None:
    long = join(registry, b"X" * 32)
    assert registry.names() == [b"X" * 32]
    registry.free(long.slot, long.generation)
    join(registry, b"y")
    assert registry.names() == [b"y"]
    assert registry.check(b"x" * 32) is None


def test_highest_p_id_and_t_id_come_back(make_registry: MakeRegistry) -> None:
    registry = make_registry(4, 256, 256)
    assert join(registry, b"bob", 255, 255) == registry.check(b"bob")
    assert registry.sessions() == [Held(0, 1, 255, 255, b"bob", 0)]
    assert registry.move(0, 1, 254, 1)
    assert registry.owner(0) == (1, 254, 1)


def test_names_whose_tags_collide_are_told_apart(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefork_chat.registry.index.NameIndex.tag", lambda *_: 7)
    locations = {name: join(registry, name) for name in (b"a", b"b", b"c", b"d")}
    assert {name: registry.check(name) for name in locations} == locations
    with pytest.raises(NameInUse):
        join(registry, b"c")
    for name in (b"b", b"a", b"d"):
        location = locations.pop(name)
        assert registry.free(location.slot, location.generation)
        assert registry.check(name) is None
        assert {other: registry.check(other) for other in locations} == locations
        audit(registry)


def test_tags_depend_on_the_random_key_of_the_memory(make_registry: MakeRegistry) -> None:
    tags = {make_registry()._index.tag(b"bob") for _ in range(3)}
    assert len(tags) == 3


def test_memory_too_small_is_refused(make_registry: MakeRegistry, semaphore: Semaphore) -> None:
    memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", 4096)
    with pytest.raises(ValueError, match="needed"):
        Registry.create(memory, semaphore, layout.Layout(100, 1, 1))
    memory.close()


def test_memory_of_another_version_is_refused(semaphore: Semaphore) -> None:
    size = layout.Layout(8, 1, 1, 0).total_bytes
    memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", size)
    Registry.create(memory, semaphore, layout.Layout(8, 1, 1)).close()
    Registry(memory, semaphore).close()
    memory.map[8] += 1
    with pytest.raises(StartError):
        Registry(memory, semaphore)
    memory.close()


def test_second_view_of_the_memory_sees_the_same(registry: Registry) -> None:
    """As after an exec that hands the descriptor on."""
    bob = join(registry, b"bob")
    size = layout.Layout(8, 3, 2, 0).total_bytes
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
        join(registry, b"n%d" % n)
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


def test_only_a_miss_needs_an_even_sequence(registry: Registry) -> None:
    bob = join(registry, b"bob")
    with registry._write_semaphore:
        registry._header[layout.SEQUENCE] += 1
        assert registry.check(b"bob") == bob
        assert registry.names() == [b"bob"]
        assert registry.sessions() == [Held(*bob[2:], *bob[:2], b"bob", 0)]
        assert registry.owner(bob.slot) == (bob.generation, 0, 0)
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
    bob = join(registry, b"bob")

    def replace_bob() -> None:
        assert registry.check(b"bob") == bob
        assert registry.free(bob.slot, bob.generation)
        join(registry, b"eve", 1)

    assert wait(fork(replace_bob)) == 0
    assert registry.names() == [b"eve"]
    audit(registry)
