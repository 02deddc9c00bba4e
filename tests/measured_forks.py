"""What makes coverage cheap in daemons: nobody writes down again what another process does.

A plugin of coverage (`plugins` in `pyproject.toml`), loaded wherever coverage is, which is in every
Python process that `make test` starts. A forked child inherits all lines that its parent has run so
far and would write them into a file of its own when it ends, with the names of all files of the
tree: 70 ms of CPU time for each of a daemon's processes, three times what starting one costs
without coverage. The parent writes them anyway. So the child begins with nothing.
Nor does a program that a test starts look for files that nobody ran: the process that began does.

It relies on three private names of coverage, which the lock file holds to one version;
`tests/test_measured_forks.py` fails when they have gone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coverage import Coverage

if TYPE_CHECKING:
    from coverage.plugin_support import Plugins
    from coverage.types import TConfigurable

_ROOT: Final = str(Path(__file__).parents[1])
_PATH: Final = "PYTHONPATH"
_STARTED: Final = "COVERAGE_PROCESS_CONFIG"
"""What coverage tells the programs that a measured process starts."""


def coverage_init(_plugins: Plugins, _options: TConfigurable) -> None:
    """Have coverage begin anew in children of this process; called by coverage when it starts."""
    os.register_at_fork(after_in_child=begin_anew)
    if _STARTED in os.environ:
        Coverage._post_save_work = _nothing  # type: ignore[method-assign, assignment]
    # Coverage starts in other programs before the checkout is where they look for this module.
    others = [path for path in os.environ.get(_PATH, "").split(os.pathsep) if path]
    os.environ[_PATH] = os.pathsep.join([_ROOT, *(path for path in others if path != _ROOT)])
    # Nor is it this package that a program means that has one of this name itself.
    sys.modules.pop("tests", None)


def begin_anew() -> None:
    """Forget what has been run up to now; in a new child, whose only thread this is."""
    measurement = Coverage.current()
    if measurement is None or measurement._collector is None:
        return
    # Not `data.clear()`: the tracer has the sets of those functions that run now.
    for lines in measurement._collector.data.values():
        lines.clear()
    # Files that nobody ran are looked for by the process that began.
    measurement._post_save_work = _nothing  # type: ignore[method-assign]


def _nothing(*_: object) -> None:
    pass
