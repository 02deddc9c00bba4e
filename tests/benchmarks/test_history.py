"""The benchmark of the history runs, and says what it has measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import history

if TYPE_CHECKING:
    import pytest


def test_a_small_run_prints_every_figure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "QUESTIONS", 5)
    assert history.main(["--rows", "2000"]) == 0
    said = capsys.readouterr().out
    for figure in ("5000 at once", "HIST 50", "FIND two words", "indexed:", "file:"):
        assert figure in said
