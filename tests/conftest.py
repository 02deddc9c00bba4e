"""Fixtures for tests with real daemons; each ends with the proof that nothing was left behind."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.harness.daemon import Daemon, StartDaemon, daemons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Under nohup the one is ignored, in the background of a shell the other, and everything that we
# start would inherit that.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy with other tests is slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start daemons with the given flags of `serve`; all are ended and checked after the test."""
    with daemons(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def common_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of two workers with two threads each, for all tests that do it no harm."""
    daemon = Daemon.start(tmp_path_factory.mktemp("common"))
    yield daemon
    daemon.finish()


@pytest.fixture
def daemon(common_daemon: Daemon) -> Iterator[Daemon]:
    """The common daemon, without clients; it has none again after the test, and a clean log."""
    yield common_daemon
    common_daemon.come_to_rest()
