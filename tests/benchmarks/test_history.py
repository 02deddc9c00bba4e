"""The benchmarks of the history run, and say what they have measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import history
from tests.benchmarks.commands import run

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_small_run_prints_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "QUESTIONS", 5)
    assert history.main(["--rows", "2000"]) == 0
    said = capsys.readouterr().out
    for figure in ("5000 at once", "HIST 50", "FIND two words", "indexed:", "file:"):
        assert figure in said


def test_questions_are_asked_of_a_daemon_in_each_of_its_states(tmp_path: Path) -> None:
    words = ("--rows", "4000", "--people", "8", "--questions", "3")
    done = run(*words, temporary=tmp_path, module="benchmarks.questions")
    assert done.returncode == 0, done.stderr
    for figure in ("stored and confirmed:", "asked meanwhile", "in the tail:", "asked then:"):
        assert figure in done.stdout
    assert done.stdout.count("all sorted") == done.stdout.count("all indexed") == 2
    assert "FIND two words" in done.stdout.split("asked then:")[1]


def test_questions_are_not_asked_for_ever(tmp_path: Path) -> None:
    words = ("--rows", "100000", "--people", "8", "--patience", "0")
    done = run(*words, temporary=tmp_path, module="benchmarks.questions")
    assert done.returncode == 1
    assert "of 50,036" in done.stderr
