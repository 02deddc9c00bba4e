"""`python -m benchmarks.adoption` with the real daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.benchmarks.commands import run

if TYPE_CHECKING:
    from pathlib import Path


def test_clients_are_measured_while_their_worker_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["--clients", "20", "150", "--kills", "3", "--rounds", "0", "--json", str(file)]
    done = run(*words, temporary=tmp_path, module="benchmarks.adoption")
    assert done.returncode == 0, done.stdout + done.stderr
    few, many = json.loads(file.read_text())
    assert (few["clients"], many["clients"]) == (20, 150)
    for kill in few["kills"] + many["kills"]:
        assert 0 < kill["first_ms"] <= kill["median_ms"] <= kill["last_ms"]
    assert len(done.stdout.splitlines()) == 3
    assert list(tmp_path.iterdir()) == [file]
