"""Fixtures for clients in real terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.terminal.tmux import Screen, Tmux, terminals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prefork_chat.addresses import Address

OpenChat: TypeAlias = Callable[..., Screen]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A tmux server of the test's own."""
    with terminals(tmp_path) as server:
        yield server


@pytest.fixture
def open_chat(tmux: Tmux) -> OpenChat:
    """Open `prefork-chat chat` in a terminal, and wait until it has joined."""

    def open_(
        address: Address,
        name: str,
        *flags: str,
        columns: int = 80,
        lines: int = 24,
        wait: bool = True,
        **environ: str,
    ) -> Screen:
        command = [sys.executable, "-m", "prefork_chat", "chat", str(address), "--name", name]
        screen = tmux.open([*command, *flags], columns=columns, lines=lines, environ=environ)
        if wait:
            screen.wait_for(f"you are {name} at")
        return screen

    return open_
