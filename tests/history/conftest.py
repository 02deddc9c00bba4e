"""A history of its own for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_chat.history.archive import Archive
from prefork_chat.history.reading import Reader
from prefork_chat.history.schema import FILE_NAME
from tests.history.talk import sort_all

if TYPE_CHECKING:
    import sqlite3
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


class _SortingReader(Reader):
    """Has everything sorted before it looks."""

    def __init__(self, path: Path, archive: Archive) -> None:
        super().__init__(path)
        self._archive = archive

    def connection(self) -> sqlite3.Connection:
        sort_all(self._archive)
        return super().connection()


@pytest.fixture(params=["in the tail", "sorted"])
def any_reader(request: pytest.FixtureRequest, path: Path, archive: Archive) -> Iterator[Reader]:
    """Wherever the messages are, one reads the same."""
    reader = _SortingReader(path, archive) if request.param == "sorted" else Reader(path)
    yield reader
    reader.close()
