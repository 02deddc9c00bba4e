"""Fixtures for tests of the whole daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.daemon.another_machine import AnotherMachine

if TYPE_CHECKING:
    from collections.abc import Iterator


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
