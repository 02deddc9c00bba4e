"""Fixtures for tests of the whole daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.daemon.another_machine import AnotherMachine
from tests.harness.daemon import daemons

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon


@pytest.fixture(scope="module")
def library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """The module's `start_with_talk`, one daemon for all tests that only read."""
    with daemons(tmp_path_factory.mktemp("library")) as start:
        yield request.module.start_with_talk(start)


@pytest.fixture
def another_machine() -> Iterator[AnotherMachine]:
    """A network namespace at the end of a cable; the test is skipped where we may not make one."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip of iproute2, for a network namespace")
    if os.geteuid() != 0:
        pytest.skip("needs root, for a network namespace")
    try:
        machine = AnotherMachine.plug_in()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs a network namespace: {error.stderr}")
    yield machine
    machine.remove()
