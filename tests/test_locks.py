"""What is installed is what was locked: by version and hash, from whatever index there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[1]
_RUNTIME = _CHECKOUT / "requirements.lock"
_TESTS = _CHECKOUT / "tests" / "requirements.lock"


def locked(path: Path) -> dict[str, str]:
    """Return version by name."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", path.read_text(), flags=re.MULTILINE))


def wanted(requirements: list[str]) -> set[str]:
    """Return the normalized names of requirements."""
    names = (re.split(r"[<>=~!;\[ ]", requirement)[0] for requirement in requirements)
    return {name.replace("_", "-").lower() for name in names}


@pytest.mark.parametrize("path", [_RUNTIME, _TESTS], ids=["runtime", "tests"])
def test_a_lock_file_has_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index" not in text
    for requirement in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==\S+ ", requirement)
        assert "--hash=sha256:" in requirement


def test_all_that_the_project_asks_for_is_locked() -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
    assert wanted(project["dependencies"]) <= set(locked(_RUNTIME))
    assert wanted(project["optional-dependencies"]["client"]) <= set(locked(_RUNTIME))
    assert wanted(project["optional-dependencies"]["test"]) <= set(locked(_TESTS))


def test_tests_run_with_the_versions_that_users_get() -> None:
    assert locked(_RUNTIME).items() <= locked(_TESTS).items()


def test_rich_is_not_in_the_daemons_environment() -> None:
    """Structlog would import it into every process: more memory and a slower start."""
    assert "rich" not in locked(_TESTS)
