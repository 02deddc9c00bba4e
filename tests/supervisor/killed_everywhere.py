"""Kill a supervisor at its k-th statement, for k = 1, 2, … until one has come to its end in order.

`python -m tests.supervisor.killed_everywhere DIRECTORY FIRST STEP`, for k = FIRST, FIRST + STEP …
only, so that several can share the work. All of one start in the same runtime directory, so each
finds what the one before left; what must not be there is looked for after each. A process of its
own, because it forks without exec: a fork takes 2 ms, a new interpreter 100. Of a statement that
runs often only the first passes count: a second semaphore is made by the same lines.
"""

from __future__ import annotations

import collections
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import posix_ipc

import prefork_chat
from prefork_chat import log
from prefork_chat.config import Config, LimitsConfig, LogConfig, RespawnConfig, ServerConfig
from prefork_chat.registry.ipc import Semaphore
from prefork_chat.supervisor.ledger import Ledger
from prefork_chat.supervisor.runtime import RuntimeDirectory
from prefork_chat.supervisor.supervisor import Supervisor
from tests.harness.ipc import DaemonObjects, left_in
from tests.supervisor import workers

if TYPE_CHECKING:
    from types import FrameType

    from prefork_chat.inheritance import Inheritance

SOURCE = str(Path(prefork_chat.__file__).parent)
PASSES = 2
MOST_STATEMENTS = 5000


class Executioner:
    """Kills this process at its `fatal`-th statement; a trace function."""

    def __init__(self, fatal: int) -> None:
        self._left = fatal
        self._pid = os.getpid()
        self._passes: collections.Counter[tuple[str, int]] = collections.Counter()

    def __call__(self, frame: FrameType, event: str, _: Any) -> Executioner | None:
        filename = frame.f_code.co_filename
        if not filename.startswith(SOURCE) or filename.endswith("log.py"):
            return None
        if event == "line" and os.getpid() == self._pid:
            place = (filename, frame.f_lineno)
            self._passes[place] += 1
            if self._passes[place] <= PASSES:
                self._left -= 1
                if self._left == 0:
                    os.kill(self._pid, signal.SIGKILL)
        return self


def serve_and_stop_the_daemon(inheritance: Inheritance) -> int:
    """Tell the supervisor to stop as soon as the worker is ready."""
    os.kill(os.getppid(), signal.SIGTERM)
    return workers.serve(inheritance)


def run_killed_at(fatal: int, config: Config) -> int:
    """Run a supervisor in a child; return its exit code, -9 if it did not get through."""
    pid = os.fork()
    if pid == 0:
        sys.settrace(Executioner(fatal))
        code = Supervisor(config, serve_and_stop_the_daemon).run()
        sys.settrace(None)
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(directory: Path, first: int, step: int) -> int:
    runtime_dir = directory / "run"
    runtime_dir.mkdir(mode=0o700)
    config = Config(
        server=ServerConfig(
            runtime_dir=str(runtime_dir),
            listen=("127.0.0.1:0", f"unix:{directory}/chat.sock"),
            workers=1,
            threads=1,
            max_clients=10,
        ),
        limits=LimitsConfig(pair_buffer_bytes=131_072),
        respawn=RespawnConfig(),
        log=LogConfig(level="error", format="json"),
    )
    log.configure(config.log)
    ledger = Ledger(RuntimeDirectory(runtime_dir, os.open(runtime_dir, os.O_RDONLY), -1))
    Semaphore.create(ledger.semaphore_key("accept", 0), 1)
    memory = posix_ipc.SharedMemory(ledger.memory_name("registry", 0), posix_ipc.O_CREX, size=1)
    theirs = ["semaphore accept 0", "memory registry 0"]
    begun = time.monotonic()
    try:
        for fatal in range(first, MOST_STATEMENTS, step):
            code = run_killed_at(fatal, config)
            found = left_in(runtime_dir)
            allowed = {"semaphore accept 1", "semaphore write 0", "memory registry 1", "board"}
            expected = {"admin", "door", "local", "local.new", "objects", "spill"}
            expected |= {"supervisor.pid"}
            unexpected = set(found) - {*theirs, *allowed, *expected}
            if unexpected or not set(theirs) <= set(found):
                print(f"killed at statement {fatal}: {found}")
                return 1
            if code == 0:
                break
            if code != -signal.SIGKILL:
                print(f"killed at statement {fatal}: exit code {code}")
                return 1
        print(f"{(fatal - first) // step} kills in {time.monotonic() - begun:.1f} s, left: {found}")
        left = [*found, *os.listdir(directory)]
        return 0 if sorted(left) == sorted([*theirs, "run"]) and fatal > 300 else 1
    finally:
        memory.close_fd()
        DaemonObjects(runtime_dir).remove()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
