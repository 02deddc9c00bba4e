"""Every storm for a moment: nobody notices that processes die, and all messages are accounted for.

A minute of each: `python -m tests.chaos storm`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from tests.chaos.storms import STORMS, rage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.daemon import StartDaemon

SECONDS: Final = 1.5
LONGER: Final = {"upgrade": 3.0, "resize": 3.0, "rooms-resize": 3.0, "rooms-resize-kill": 3.0}
"""For what takes seconds itself where the processor is shared."""

PATIENCE_SECONDS: Final = 20.0
"""Until the first worker has ended, on a machine that is busy with much else."""

FEWEST_MESSAGES: Final = 1000
"""Far below what the slowest machine does in that time: only that they talked at all."""


@pytest.mark.parametrize("name", [name for name in STORMS if name != "calm"])
def test_a_storm_passes_unnoticed(start_daemon: StartDaemon, tmp_path: Path, name: str) -> None:
    seconds = LONGER.get(name, SECONDS)
    seed = random.randrange(1_000_000)
    outcome = rage(start_daemon, tmp_path, name, seconds, seed, patience_seconds=PATIENCE_SECONDS)
    print(outcome)
    assert not outcome.account.troubles
    assert not outcome.leaks
    assert outcome.account.delivered > FEWEST_MESSAGES
    assert outcome.has_raged
