"""What the console writes into a pair that is full."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from prefork_chat.console import link
from prefork_chat.pairs import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def full_pair() -> Iterator[Pair]:
    pair = Pair.create(4096)
    try:
        while True:
            pair.inlet.send(b"x" * 100)
    except BlockingIOError:
        yield pair
    pair.close()


def read_all(pair: Pair) -> list[bytes]:
    read = []
    try:
        while True:
            read.append(pair.outlet.recv(200))
    except BlockingIOError:
        return read


def test_a_worker_that_is_behind_is_waited_for(full_pair: Pair) -> None:
    writer = threading.Thread(target=link._write, args=(full_pair.inlet.fileno(), b"directive"))
    writer.start()
    read = []
    while writer.is_alive():
        read += read_all(full_pair)
    writer.join()
    assert (read + read_all(full_pair))[-1] == b"directive"


def test_a_worker_that_stands_still_is_not_waited_for_long(
    full_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_PATIENCE_MS", 10)
    link._write(full_pair.inlet.fileno(), b"directive")
    assert b"directive" not in read_all(full_pair)
