from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
ADDRESSES = str(ROOT / "prefork_chat/addresses.py")
FORKING = """\
import os
import sys

from prefork_chat.addresses import parse_address

pid = os.fork()
if pid == 0:
    parse_address("127.0.0.1:7000")
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
STARTING = """\
import subprocess
import sys

import prefork_chat

sys.exit(subprocess.run([sys.executable, "-c", "import prefork_chat.addresses"]).returncode)
"""


def test_a_forked_child_writes_down_what_it_has_run_itself_and_no_more(tmp_path: Path) -> None:
    child, parent = run_measured(FORKING, tmp_path)
    assert child.keys() == {ADDRESSES} < parent.keys()
    assert child[ADDRESSES]
    assert not child[ADDRESSES] & parent[ADDRESSES]


def test_a_program_that_is_started_does_not_name_the_files_that_it_has_not_run(
    tmp_path: Path,
) -> None:
    child, parent = run_measured(STARTING, tmp_path)
    assert ADDRESSES in child
    assert len(child) < 10 < len(parent)
    assert not parent[ADDRESSES]


def run_measured(text: str, tmp_path: Path) -> list[dict[str, set[int]]]:
    """Run a program of two processes; return what each of them has written down.

    The parent comes last: it names all files of the tree, whether they were run or not.
    """
    program = tmp_path / "program.py"
    program.write_text(text)
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={tmp_path}/data"]
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    subprocess.run([*command, str(program)], cwd=ROOT, env=environ, check=True)
    written = sorted(map(measured, tmp_path.glob("data.*")), key=len)
    assert len(written) == 2
    return written


def measured(file: Path) -> dict[str, set[int]]:
    """Return which lines of which files are in a file of coverage's; only lines of functions."""
    data = CoverageData(str(file))
    data.read()
    return {name: set(data.lines(name) or []) for name in data.measured_files()}
