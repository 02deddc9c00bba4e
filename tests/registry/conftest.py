"""Registries and semaphores of any size, gone after the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from prefork_chat.registry import layout
from prefork_chat.registry.ipc import Semaphore, SharedMemory
from prefork_chat.registry.registry import Registry

MakeSemaphore = Callable[[int], Semaphore]
MakeRegistry = Callable[..., Registry]


def fresh_key() -> int:
    return int.from_bytes(os.urandom(4), "little") % 0x7FFF_FFFE + 1


@pytest.fixture
def make_semaphore() -> Iterator[MakeSemaphore]:
    with ExitStack() as stack:

        def make(value: int = 1) -> Semaphore:
            semaphore = Semaphore.create(fresh_key(), value)
            stack.callback(semaphore.remove)
            return semaphore

        yield make


@pytest.fixture
def semaphore(make_semaphore: MakeSemaphore) -> Semaphore:
    return make_semaphore(1)


@pytest.fixture
def make_registry(make_semaphore: MakeSemaphore) -> Iterator[MakeRegistry]:
    with ExitStack() as stack:

        def make(capacity: int = 8, workers: int = 3, threads: int = 2, rooms: int = 4) -> Registry:
            shape = layout.Layout(capacity, workers, threads, rooms)
            memory = SharedMemory.create(f"/prefork-chat-test-{fresh_key():x}", shape.total_bytes)
            registry = Registry.create(memory, make_semaphore(1), shape)
            stack.callback(memory.close)
            stack.callback(registry.close)
            for p_id in range(workers):
                registry.table.begin(p_id, 1, 1)
            return registry

        yield make


@pytest.fixture
def registry(make_registry: MakeRegistry) -> Registry:
    return make_registry()
