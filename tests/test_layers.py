"""Rules of the architecture that the import contracts cannot express."""

from __future__ import annotations

import ast
from pathlib import Path

import prefork_chat

_SOURCE = Path(prefork_chat.__file__).parent
_FORKERS = {"fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen"}
_FORKING_MODULES = {"concurrent", "multiprocessing", "pty", "subprocess"}


def test_only_supervisor_spawn_forks() -> None:
    """A fork anywhere else would happen beside threads, or with the wrong signals blocked.

    The benchmark of channels starts its peer: a command of its own, never part of the daemon.
    """
    forking = {
        str(path.relative_to(_SOURCE))
        for path in sorted(_SOURCE.rglob("*.py"))
        if _forks(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert forking == {"cli/ipc_bench.py", "supervisor/spawn.py"}


def _forks(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in _FORKERS:
                return True
            case ast.ImportFrom(module="os", names=names):
                if _FORKERS & {alias.name for alias in names}:
                    return True
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in _FORKING_MODULES:
                return True
            case ast.Import(names=names):
                if _FORKING_MODULES & {alias.name.split(".")[0] for alias in names}:
                    return True
    return False
