"""A real supervisor in a process of its own: `python -m tests.supervisor.program WORKER FILE`.

WORKER is a function of `workers`, or `echo`, FILE the configuration as JSON, read again by a
reload. Exits like the command does.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from functools import partial
from pathlib import Path

import msgspec

from prefork_chat import log
from prefork_chat.config import Config
from prefork_chat.errors import ConfigError, PreforkChatError
from prefork_chat.supervisor.supervisor import Supervisor
from tests.supervisor import workers
from tests.supervisor.attendants import duties
from tests.supervisor.echo import echo


def load(path: str) -> Config:
    """Read the configuration; raises ConfigError."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Config)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error


def main(worker: str, path: str) -> int:
    config = load(path)
    log.configure(config.log)
    if worker == "terminated_at_birth":
        worker = "obey"
        send_sigterm_right_after_each_fork()
    if worker == "without_interpreter":
        worker = "echo"
        sys.executable = "/gone/python3"
    if worker == "refused_at_first":
        worker = "obey"
        refuse_the_first_forks(3)
    try:
        run_worker = echo if worker == "echo" else getattr(workers, worker)
        return Supervisor(config, run_worker, partial(load, path), duties=duties()).run()
    except PreforkChatError as error:
        print(f"prefork-chat: {error}", file=sys.stderr)
        return error.exit_code


def send_sigterm_right_after_each_fork() -> None:
    """Let the child get its SIGTERM before it has run at all."""
    fork = os.fork

    def fork_and_terminate() -> int:
        pid = fork()
        if pid:
            os.kill(pid, signal.SIGTERM)
        return pid

    os.fork = fork_and_terminate


def refuse_the_first_forks(count: int) -> None:
    """Fail as the kernel does when there are too many processes: root cannot be limited."""
    fork = os.fork
    refusals = iter(range(count))

    def refuse_or_fork() -> int:
        if next(refusals, None) is not None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return fork()

    os.fork = refuse_or_fork


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
