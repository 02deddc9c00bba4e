from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import processes

# Uses 0.2 s of CPU time and 30 MB in a child, says so, and waits for its stdin; so does its parent.
BUSY = """
import sys, time
memory = bytearray(b"x" * 30_000_000)
while time.process_time() < 0.2: pass
print("busy", flush=True)
sys.stdin.read()
"""
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
print("reaped", flush=True)
sys.stdin.read(1)
"""


def test_a_tree_costs_what_its_descendants_cost_also_after_they_are_reaped() -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PARENT, BUSY]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "busy\n"
        pids = processes.tree(parent.pid)
        running_ns = processes.cpu_ns(parent.pid)
        running_bytes = processes.pss_bytes(parent.pid)
        parent.stdin.close()
        assert parent.stdout.readline() == "reaped\n"
        reaped_ns = processes.cpu_ns(parent.pid) if parent.poll() is None else None
    assert parent.pid in pids
    assert len(pids) == 2
    assert running_ns >= 200_000_000
    assert running_bytes >= 30_000_000
    assert reaped_ns is None or reaped_ns >= running_ns - 20_000_000  # a tick for user and system


def test_a_process_that_has_gone_costs_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert not Path(f"/proc/{process.pid}").exists()
    assert processes.cpu_ns(process.pid) == processes.pss_bytes(process.pid) == 0


def test_the_machine_has_used_more_cpu_time_than_this_process() -> None:
    assert os.getpid() in processes.tree(os.getpid())
    assert 0 < processes.cpu_ns(os.getpid()) < processes.machine_cpu_ns()
