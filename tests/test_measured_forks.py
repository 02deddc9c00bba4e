from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from coverage import CoverageData

ROOT = Path(__file__).parents[1]
PROGRAM = """\
import os
import sys

from prefork_chat.addresses import parse_address

pid = os.fork()
if pid == 0:
    parse_address("127.0.0.1:7000")
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_forked_child_writes_down_what_it_has_run_itself_and_no_more(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "coverage", "run", f"--data-file={tmp_path}/data"]
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    subprocess.run([*command, str(program)], cwd=ROOT, env=environ, check=True)
    # The parent names all files of the tree, whether they were run or not.
    child, parent = sorted(map(measured, tmp_path.glob("data.*")), key=len)
    addresses = str(ROOT / "prefork_chat/addresses.py")
    assert child.keys() == {addresses} < parent.keys()
    assert child[addresses]
    assert not child[addresses] & parent[addresses]


def measured(file: Path) -> dict[str, set[int]]:
    """Return which lines of which files are in a file of coverage's; only lines of functions."""
    data = CoverageData(str(file))
    data.read()
    return {name: set(data.lines(name) or []) for name in data.measured_files()}
