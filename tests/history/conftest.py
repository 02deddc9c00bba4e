"""A history of its own for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.history.archive import Archive
from prefork_chat.history.reading import Reader
from prefork_chat.history.schema import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUN = b"this run"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@pytest.fixture
def archive(path: Path) -> Iterator[Archive]:
    archive = Archive(path, RUN)
    yield archive
    archive.close()


@pytest.fixture
def reader(path: Path, archive: Archive) -> Iterator[Reader]:
    reader = Reader(path)
    yield reader
    reader.close()
