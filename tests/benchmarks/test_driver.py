"""`python -m benchmarks` with the real daemon."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.commands import run

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ["--rounds", "1", "--seconds", "0.3", "--warm-up", "0.1"]


def test_the_daemon_is_measured_and_found_sound(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["busy", "latency", "joins", "--clients", "20", "--receipts", "--rate", "0"]
    done = run(*words, *QUICK, "--json", str(file), temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {each["scenario"]: each for each in json.loads(file.read_text())["results"]}
    for each in results.values():
        assert each["trouble"] == {}
        assert each["figures"]["server_us"] > 0
        assert each["figures"]["delivery_p50_us"] > 0
    assert results["busy"]["figures"]["receipt_p99_us"] > 0
    assert results["joins"]["figures"]["joins_per_second"] > 0
    assert list(tmp_path.iterdir()) == [file]


def test_idle_clients_have_a_price(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["idle", "--clients", "200", "--transport", "unix", "--json", str(file)]
    done = run(*words, *QUICK, temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())["results"][0]["figures"]
    assert figures["whole_pss_bytes_per_client"] > figures["client_pss_bytes"] > 0


def test_a_daemon_that_does_not_start_ends_the_benchmark_with_its_log(tmp_path: Path) -> None:
    done = run("busy", "--set", "server.wurkers=3", *QUICK, temporary=tmp_path)
    assert done.returncode == 2
    assert "server.wurkers" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_scenario_is_refused_with_the_list(tmp_path: Path) -> None:
    done = run("lazy", temporary=tmp_path)
    assert done.returncode == 2
    assert "no scenario lazy; there are busy, single" in done.stderr


@pytest.mark.parametrize("option", ["--list", "--help"])
def test_scenarios_are_listed(tmp_path: Path, option: str) -> None:
    done = run(option, temporary=tmp_path)
    assert done.returncode == 0
    assert "single-receipts" in done.stdout
