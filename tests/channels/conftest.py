"""Every test gets a key of its own, and must leave nothing: no object, file or descriptor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from prefork_chat.channels import mechanisms, names
from tests.channels.traces import traces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=names.ALL)
def mechanism(request: pytest.FixtureRequest) -> str:
    """Each of the six in turn."""
    return str(request.param)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The directory of the ledger."""
    return tmp_path / "ledger"


@pytest.fixture
def key(tmp_path: Path, ledger: Path) -> Iterator[Path]:
    """A file to derive a key from; nothing of that key is left after the test."""
    path = tmp_path / "key"
    path.touch()
    descriptors = set(os.listdir("/proc/self/fd"))
    yield path
    left = traces(path, ledger)
    for _ in mechanisms.clean(ledger):
        pass  # so that one failure does not make the next
    assert not left
    assert set(os.listdir("/proc/self/fd")) == descriptors
