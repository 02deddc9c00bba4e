from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.build import build_loadgen

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def loadgen() -> Path:
    return build_loadgen()
