"""Commands of the benchmarks, run as a person would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.build import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run(
    *words: str, temporary: Path, module: str = "benchmarks", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE WORDS` with its temporary files there, for so many seconds at most."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
