"""All tests in three pytest processes at once, because most of them wait half of their time.

`python -m tests.side_by_side [ARGUMENT...]`, as `make test` runs it; the arguments are pytest's.
All processes collect the same tests in the same order, and each claims the next module that nobody
has claimed when it is done with one. Who finds none left takes tests from the ends of the modules
that others are at, so that all end at about the same time whatever is added. The first one's output
is shown as it comes, the others' when all have ended. Coverage is measured, and reports for
`tests/skipped.py` are left in `.cache/tests-1.xml` and so on.

A few tests that fail beside others are run once more, alone. If they pass then, the run has passed,
and they are named as *unsteady* in its last lines: somebody has to look at them, but what they are
about works. More than MOST_UNSTEADY are no chance.

This module is the pytest plugin for that, too: `-p tests.side_by_side --claims=DIRECTORY`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PROCESSES: Final = (1, 2, 3)
"""Three fill two processors; with four, as much is done in a minute (measured on 2026-11-21)."""

MOST_UNSTEADY: Final = 6
_ROOT: Final = Path(__file__).parents[1]
_OUTPUT: Final = ".cache/tests-{}.log"
_REPORT: Final = ".cache/tests-{}.xml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the directory in which modules and tests are claimed."""
    parser.addoption("--claims", type=Path, required=True, help="where tests are claimed")


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run those tests that this process claims; otherwise as pytest's own loop does."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # pytest's own loop says what is wrong, or nothing
    claimed = claimed_items(session.items, session.config.getoption("--claims"))
    item = next(claimed, None)
    while item is not None:
        following = next(claimed, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True


def claimed_items(items: list[pytest.Item], claims: Path) -> Iterator[pytest.Item]:
    """Yield the tests of modules that nobody else has claimed, then what others have yet to run."""
    modules = [list(tests) for _, tests in groupby(items, key=lambda item: item.path)]
    numbered = [
        (f"{number}", [(f"{number}.{index}", test) for index, test in enumerate(tests)])
        for number, tests in enumerate(modules)
    ]
    for module, tests in numbered:
        if _claim(claims / module):
            yield from (test for claim, test in tests if _claim(claims / claim))
    for _, tests in reversed(numbered):
        yield from (test for claim, test in reversed(tests) if _claim(claims / claim))


def _claim(path: Path) -> bool:
    """Say whether nobody has been quicker."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Run all processes; return 0 if all tests of all of them have passed."""
    with tempfile.TemporaryDirectory() as claims, ExitStack() as stack:
        running = [stack.enter_context(_start(process, claims, arguments)) for process in PROCESSES]
        codes = [process.wait() for process in running]
    for process in PROCESSES[1:]:
        output = (_ROOT / _OUTPUT.format(process)).read_text(encoding="utf-8", errors="replace")
        print(output, end="", flush=True)
    if not any(codes):
        return 0
    reports = [_ROOT / _REPORT.format(process) for process in PROCESSES]
    failed = [test for report in reports for test in failed_tests(report)]
    if not failed or len(failed) > MOST_UNSTEADY or any(code > 1 for code in codes):
        return 1
    print("\nonce more, alone:", *failed, sep="\n  ", flush=True)
    again = [*(sys.executable, "-m", "coverage", "run", "-m", "pytest"), *failed]
    if subprocess.run(again, cwd=_ROOT, check=False).returncode:
        return 1
    print("unsteady:", *failed, sep="\n  ", flush=True)
    return 0


def _start(process: int, claims: str, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start one of the processes; the output of all but the first goes to a file."""
    command = [
        *(sys.executable, "-m", "coverage", "run", "-m", "pytest"),
        # In one word: pytest looks for its configuration above all words that are paths.
        *("-p", "tests.side_by_side", f"--claims={claims}"),
        f"--junitxml={_REPORT.format(process)}",
        *arguments,
    ]
    if process == PROCESSES[0]:
        return subprocess.Popen(command, cwd=_ROOT)
    with (_ROOT / _OUTPUT.format(process)).open("wb") as log:
        return subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def failed_tests(report: Path) -> list[str]:
    """Return the tests of a JUnit report that failed, or whose fixtures did, as pytest's ids."""
    failed = [
        f"{(case.get('classname') or '').replace('.', os.sep)}.py::{case.get('name')}"
        for case in ET.fromstring(report.read_bytes()).iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return list(dict.fromkeys(failed))  # one whose fixture fails, too, is there twice


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
