from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.build import build_loadgen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def loadgen() -> Path:
    return build_loadgen()


@pytest.fixture(autouse=True, scope="package")
def unmeasured() -> Iterator[None]:
    """No coverage in the servers and drivers started here: it would cost them more than they do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
