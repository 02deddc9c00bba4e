"""Installs the service for the tests here, as `systemd/README.md` says, and removes it again."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.systemd.service import CHECKOUT, CONFIG, PREFIX, UNITS, Person, Service, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNIT_NAMES = ("prefork-chat.service", "prefork-chat.socket")


def _reason_to_skip() -> str | None:
    if not Path("/run/systemd/system").is_dir():
        return "systemd is not running here"
    if os.geteuid() != 0:
        return "only root can install units"
    if not os.environ.get("PREFORK_CHAT_WHEELS"):
        return "PREFORK_CHAT_WHEELS is not set: nothing may be installed here"
    if PREFIX.exists() or any((UNITS / name).exists() for name in _UNIT_NAMES):
        return "prefork-chat is installed here already"
    return None


@pytest.fixture(scope="session")
def installed() -> Iterator[Service]:
    reason = _reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    try:
        _install()
        yield Service()
    finally:
        run("systemctl", "stop", *_UNIT_NAMES)
        for name in _UNIT_NAMES:
            (UNITS / name).unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        CONFIG.unlink(missing_ok=True)
        shutil.rmtree(PREFIX)


@pytest.fixture
def service(installed: Service) -> Iterator[Service]:
    """The service, with its socket open and no process yet; ended in order afterwards."""
    run("systemctl", "start", "prefork-chat.socket")
    yield installed
    run("systemctl", "stop", *_UNIT_NAMES)
    run("systemctl", "reset-failed")


@pytest.fixture
def connect(service: Service) -> Iterator[Callable[[str], Person]]:
    """Let somebody connect and join under a name; all hang up at the end."""
    with ExitStack() as undo:
        yield lambda name: undo.enter_context(closing(Person(name)))


def _install() -> None:
    """Do what README says, with wheels in place of a package index."""
    python = os.environ.get("PREFORK_CHAT_PYTHON", "/usr/bin/python3")
    wheels = f"--find-links={os.environ['PREFORK_CHAT_WHEELS']}"
    run(python, "-m", "venv", PREFIX)
    pip = PREFIX / "bin" / "pip"
    lock = CHECKOUT / "requirements.lock"
    run(pip, "install", "--no-index", wheels, "--require-hashes", "--requirement", lock)
    run(pip, "install", "--no-index", wheels, "--no-deps", "prefork-chat")
    shutil.copyfile(CHECKOUT / "systemd" / "prefork-chat.toml", CONFIG)
    CONFIG.chmod(0o644)
    for name in _UNIT_NAMES:
        shutil.copyfile(CHECKOUT / "systemd" / name, UNITS / name)
    run("systemctl", "daemon-reload")
