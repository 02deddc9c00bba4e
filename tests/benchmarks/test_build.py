from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.build import FLAGS, SOURCES, BuildError, build_loadgen

if TYPE_CHECKING:
    from pathlib import Path


def test_loadgen_is_built_once_per_state_of_its_sources(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "main.c").write_text("int main(void) { return 0; }\n")
    first = build_loadgen(sources, tmp_path / "cache")
    made_ns = first.stat().st_mtime_ns
    assert build_loadgen(sources, tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == made_ns
    (sources / "main.c").write_text("int main(void) { return 1; }\n")
    assert build_loadgen(sources, tmp_path / "cache") != first
    assert {path.name[:8] for path in (tmp_path / "cache").iterdir()} == {"loadgen-"}


def test_a_compiler_error_is_shown(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(BuildError, match="nothing"):
        build_loadgen(tmp_path, tmp_path / "cache")


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BuildError, match="no-such-compiler"):
        build_loadgen(SOURCES, tmp_path)


def test_loadgen_compiles_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.build.FLAGS", (*FLAGS, "-Werror"))
    assert build_loadgen(cache=tmp_path).exists()
