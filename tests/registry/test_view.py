"""A registry seen by somebody who only looks on: all there is to read, and no way to write."""

from __future__ import annotations

import mmap
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from prefork_chat.errors import StartError
from prefork_chat.registry import layout
from prefork_chat.registry.ipc import SharedMemory
from prefork_chat.registry.registry import Registry
from prefork_chat.registry.view import ReadOnly, RegistryView
from tests.registry.conftest import MakeSemaphore, fresh_key
from tests.registry.sessions import join

if TYPE_CHECKING:
    from collections.abc import Iterator


class Both(NamedTuple):
    """The daemon's registry and the view of somebody else, in one process."""

    memory: SharedMemory
    registry: Registry
    view: RegistryView


@pytest.fixture
def both(make_semaphore: MakeSemaphore) -> Iterator[Both]:
    with ExitStack() as stack:
        shape = layout.Layout(8, 2, 2, 4)
        memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", shape.total_bytes)
        stack.callback(memory.close)
        registry = Registry.create(memory, make_semaphore(1), shape)
        stack.callback(registry.close)
        looked_at = SharedMemory.look_at(memory.open_to_read())
        stack.callback(looked_at.close)
        view = RegistryView(looked_at)
        stack.callback(view.close)
        yield Both(memory, registry, view)


def test_a_view_sees_what_happens(both: Both) -> None:
    _, registry, view = both
    bob = join(registry, b"Bob", 1, 1)
    registry.table.begin(1, 3, 77)
    assert view.check(b"bob") == bob
    assert view.check(b"eve") is None
    assert view.names() == [b"Bob"]
    assert view.sessions() == registry.sessions()
    assert (view.count, view.claimed, view.capacity) == (1, 1, 8)
    assert view.table.snapshot() == registry.table.snapshot()
    registry.free(bob.slot, bob.generation)
    assert view.check(b"bob") is None


def test_the_descriptor_cannot_be_used_to_write(both: Both) -> None:
    fd = both.memory.open_to_read()
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(fd, 64, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(fd, 0)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_view_changes_nothing(both: Both) -> None:
    _, registry, view = both
    bob = join(registry, b"bob")
    with pytest.raises(ReadOnly):
        view.claim(0, 0)
    with pytest.raises(ReadOnly):
        view.enter(bob.slot, bob.generation, b"eve", b"eve")
    with pytest.raises(ReadOnly):
        view.withdraw(bob.slot, bob.generation)
    with pytest.raises(ReadOnly):
        view.free(bob.slot, bob.generation)
    with pytest.raises(ReadOnly):
        view.move(bob.slot, bob.generation, 1, 1)
    with pytest.raises(ReadOnly):
        view.take_over(bob.slot, bob.generation, 1, 1, 1)
    with pytest.raises(ReadOnly):
        view.writer_pid()
    with pytest.raises(TypeError):
        view.progress[bob.slot] = 1
    with pytest.raises(TypeError):
        view.table.end(0)
    assert registry.check(b"bob") == bob


def test_a_view_does_not_wait_for_a_writer_that_never_ends(both: Both) -> None:
    """Killed in the middle of a write, and nobody has written since."""
    memory, registry, view = both
    bob = join(registry, b"bob")
    with memoryview(memory.map)[: layout.HEADER_BYTES].cast("q") as header:
        header[layout.SEQUENCE] += 1
        assert view.check(b"bob") == bob
        assert view.check(b"eve") is None
        header[layout.SEQUENCE] += 1


def test_memory_that_is_no_registry_is_refused(both: Both) -> None:
    with memoryview(both.memory.map)[: layout.HEADER_BYTES].cast("q") as header:
        header[layout.VERSION] += 1
    looked_at = SharedMemory.look_at(both.memory.open_to_read())
    with pytest.raises(StartError, match="not a registry of this version"):
        RegistryView(looked_at)
    looked_at.close()
