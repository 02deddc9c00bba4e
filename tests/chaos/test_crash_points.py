"""A worker killed at its system calls, some of them: its clients see exactly what they should.

All of them: `python -m tests.chaos crash-points`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.chaos.crash_points import SHAPES, Round
from tests.chaos.traps import TRAPS, NoTrapError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import StartDaemon

POINTS = 24

SEED = 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("trap", TRAPS)
def test_a_kill_at_any_point_is_not_noticed(
    start_daemon: StartDaemon, tmp_path: Path, trap: str, shape: tuple[int, int]
) -> None:
    rng = random.Random(SEED)
    try:
        with Round(start_daemon, shape, TRAPS[trap](shape[1], tmp_path, rng)) as points:
            visits = points.sample(POINTS)
    except NoTrapError as error:
        pytest.skip(str(error))
    print(visits)
    assert not visits.wrong
    assert visits.killed.total() >= POINTS // 4
