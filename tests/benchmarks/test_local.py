"""`python -m benchmarks.local` with the real commands, a small file, and ways that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import local
from benchmarks.local import WAYS, Damaged, Measured, Move, Way
from benchmarks.peers import debian
from prefork_chat.channels import names
from tests.benchmarks.commands import run

if TYPE_CHECKING:
    from pathlib import Path

_CAT = Way("cat", ('cat "$FILE"',))


def test_a_file_goes_through_all_mechanisms_and_through_those_of_the_system(tmp_path: Path) -> None:
    words = ["local", "--size", "3000000", "--rounds", "1", "--folder", str(tmp_path)]
    done = run(*words, temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    has_socat = debian.find("socat") is not None
    expected = [way.name for way in WAYS if has_socat or not way.needs_socat]
    first = [row[0].removeprefix("| ") for row in rows]
    assert first[2 : 2 + len(expected)] == expected
    assert first[2 + len(expected) + 2 :][:2] == [names.PIPE, names.FIFO]
    assert ("socat is not here and was left out" in done.stdout) is not has_socat
    assert list(tmp_path.iterdir()) == []


def test_what_comes_out_is_compared(tmp_path: Path) -> None:
    for command in ('head -c 99999 "$FILE"', 'tr "\\0" "\\1" < "$FILE"', "true"):
        with pytest.raises(Damaged, match="broken: what came out is not what went in"):
            local.measure([_CAT, Way("broken", (command,))], 100_000, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    way = Way("broken", ('cat "$FILE"', "cat /nowhere"))
    with pytest.raises(Damaged, match=r"broken: .*/nowhere"):
        local.measure([way], 100_000, 1, tmp_path)


def test_a_command_that_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(Damaged, match="took too long"):
        local.measure([Way("broken", ('cat "$FIFO"',))], 100_000, 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_went_wrong_has_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--size", "1000", "--rounds", "1", "--folder"]
    assert local.main([*words, str(tmp_path / "missing")]) == 2
    monkeypatch.setattr(local, "WAYS", (Way("broken", ("false",)),))
    assert local.main([*words, str(tmp_path)]) == 1
    assert "benchmarks.local: broken: a command failed" in capsys.readouterr().err


def test_without_socat_its_rounds_are_left_out_or_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[tuple[str, ...]] = []
    monkeypatch.setattr(debian, "find", lambda _: None)
    monkeypatch.setattr(debian, "fetch", lambda *, packages: fetched.append(packages))
    monkeypatch.setattr(local, "WAYS", (_CAT, Way("socat", ("false",), needs_socat=True)))
    words = ["--size", "100000", "--rounds", "2", "--folder", str(tmp_path)]
    assert local.main(words) == 0
    assert fetched == []
    assert local.main([*words, "--fetch"]) == 0
    assert fetched == [("socat",)]
    assert "socat is not here and was left out" in capsys.readouterr().out


def test_the_report_has_medians_ranges_and_ratios() -> None:
    ours = Measured(Way(names.FIFO, ()), 100_000_000)
    ours.moves += [Move(0.1, 0.3, 0.2), Move(0.2, 0.3, 0.2), Move(0.5, 0.3, 0.2)]
    theirs = Measured(Way("cat", (), names.FIFO), 100_000_000)
    theirs.moves += [Move(0.1, 0.1, 0.1)] * 3
    assert local.report([ours, theirs]).splitlines() == [
        "100,000,000 bytes, 3 rounds: median (least-most)",
        "",
        "| way | moving, MB/s | whole, ms | CPU, ms |",
        "| --- | --- | --- | --- |",
        "| fifo | 500 (200-1,000) | 300 (300-300) | 200 (200-200) |",
        "| cat | 1,000 (1,000-1,000) | 100 (100-100) | 100 (100-100) |",
        "",
        "| mechanism | beside | time of moving, times | time of the whole, times |",
        "| --- | --- | --- | --- |",
        "| fifo | cat | 2.00 | 3.00 |",
    ]
