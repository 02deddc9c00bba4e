"""A real daemon: started, watched, hurt and ended; and proof that it left nothing behind.

`Daemon.start` runs `prefork-chat serve` in a session, and so a process group, of its own, with a
runtime directory of its own and a port that the kernel chose. A test gets clients from it
(`connect`, `join`), waits for what it logs (`log`), and finds and hurts its workers. `finish` ends
it and fails unless everything is gone.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from prefork_chat import log
from prefork_chat.addresses import Address, parse_address
from tests.harness import processes
from tests.harness.client import LineClient
from tests.harness.ipc import DaemonObjects, posix_names, sysv_names, used_by
from tests.harness.program import Program
from tests.harness.sockets import serving_pid
from tests.harness.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    import socket

_CONNECTS: Final = 100
"""Most connections made to get one at a certain worker. Workers take turns, so a few do."""

_KILLED: Final = (log.WORKER_EXITED, log.WORKER_THROTTLED)


class Daemon(Program):
    """One run of the daemon.

    `log` is what it logs; `directory` its runtime directory; `objects` the IPC objects that it has.
    """

    def __init__(
        self,
        directory: Path,
        *,
        program: str = "prefork_chat",
        environ: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        """Start it and return at once; `start` waits until it is ready.

        `directory`: where its runtime directory and a copy of its log go. `program`: the module
        that is run; `environ`: its environment, None for our own. Other keywords are flags of
        `serve` with underscores: `limits_burst_lines=5`, `turn_lock=False`, `listen=[...]`.
        """
        options = {
            "listen": "127.0.0.1:0",
            "log_format": "json",
            "loop_clients": 0,  # a few clients are to be in all loops
            "runtime_dir": directory / "run",
            "state_dir": directory / "state",
        } | options
        self.directory: Final = Path(str(options["runtime_dir"]))
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.objects: Final = DaemonObjects(self.directory)
        self._strange_objects: Final = self.objects.existing() | sysv_names() | posix_names()
        self._clients: Final = ExitStack()
        super().__init__(
            [
                *(sys.executable, "-m", program, "serve"),
                *(word for flag, value in options.items() for word in _flag(flag, value)),
            ],
            directory / "daemon.log",
            environ=environ,
        )
        self._is_finished = False

    @classmethod
    def start(cls, directory: Path, **options: Any) -> Daemon:
        """Start a daemon and wait until all its workers are ready."""
        daemon = cls(directory, **options)
        try:
            daemon.log.wait_for(log.SUPERVISOR_READY)
        except BaseException:
            daemon.abandon()
            raise
        return daemon

    # Clients

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, in the order of its `listen` flags."""
        return [parse_address(event["address"]) for event in self.log.events(log.LISTENER_OPENED)]

    def connect(
        self, worker: int | None = None, *, address: Address | None = None, receive_bytes: int = 0
    ) -> LineClient:
        """Connect to the first (or the given) address and read the greeting.

        `worker`: the p_id that is to serve this client, for TCP; None: whoever accepts it. The
        client is closed at the end if the test does not do it.
        """
        for _ in range(_CONNECTS):
            client = LineClient.connect(address or self.addresses[0], receive_bytes)
            self._clients.enter_context(client)
            client.expect_greeting()
            if worker is None or self.worker_of(client) == worker:
                return client
            client.close()
        raise AssertionError(f"worker {worker} accepted none of {_CONNECTS} connections")

    def join(self, name: str, worker: int | None = None, **how: int) -> LineClient:
        """Connect as `connect` does and take a name."""
        client = self.connect(worker, **how)  # type: ignore[arg-type]
        client.join(name)
        return client

    def close_clients(self) -> None:
        """Hang up on behalf of all clients, and wait until the daemon has let them go."""
        self._clients.close()
        with self.connect() as last:
            until(lambda: last.stat()["clients"] == 1, "the daemon to let its clients go")

    def come_to_rest(self) -> None:
        """Be without clients again, for the next test; fails unless the log is clean."""
        self.close_clients()
        self._check_log()

    def stat(self) -> dict[str, int]:
        """Ask the daemon, over a connection of its own, how it is doing."""
        with LineClient.connect(self.addresses[0]) as client:
            client.expect_greeting()
            return client.stat()

    # Workers

    def worker_pid(self, p_id: int) -> int:
        """Return the pid of the worker that is `p_id` now."""
        return int(self.log.events(log.WORKER_SPAWNED, p_id=p_id)[-1]["pid"])

    def worker_pids(self) -> list[int]:
        """Return the pids of all workers, by p_id."""
        latest = {event["p_id"]: event["pid"] for event in self.log.events(log.WORKER_SPAWNED)}
        return [latest[p_id] for p_id in sorted(latest)]

    def worker_of(self, client: LineClient) -> int | None:
        """Return the p_id of the worker that serves `client`, which has been greeted over TCP."""
        return self.worker_of_socket(client.socket)

    def worker_of_socket(self, client: socket.socket) -> int | None:
        """Return the p_id of the worker that serves the client with this end of a connection."""
        pids = self.worker_pids()
        pid = serving_pid(client, pids)
        return None if pid is None else pids.index(pid)

    def generation(self, p_id: int) -> int:
        """Return how many workers `p_id` has had so far."""
        return int(self.log.events(log.WORKER_SPAWNED, p_id=p_id)[-1]["generation"])

    def kill_worker(self, p_id: int) -> None:
        """Kill the worker with SIGKILL, which the log may tell, once it has one that lives."""
        until(lambda: self.strike(self.worker_pid(p_id)), f"worker {p_id} to live")

    def strike(self, pid: int, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to one of our workers, if it still lives; say whether."""
        self.log.expect(*_KILLED)
        return processes.strike(pid, self.pid, number)

    def replace_worker(self, p_id: int) -> None:
        """Kill the worker with SIGKILL and wait until its successor is ready."""
        generation = self.generation(p_id)
        self.kill_worker(p_id)
        self.log.wait_for(log.WORKER_READY, p_id=p_id, generation=generation + 1)

    def accept_holder(self) -> int:
        """Return the pid that holds the accept semaphore; waits, but for a hand-over, for none."""
        return until(self.objects.semaphore("accept").holder_pid, "somebody to accept")

    def stop_accept_holder(self) -> int:
        """SIGSTOP whoever holds the accept semaphore, while he holds it; return his pid."""
        return until(self._try_to_stop_accept_holder, "the holder to be stopped in time")

    @contextmanager
    def stopped_worker(self, p_id: int) -> Iterator[None]:
        """Keep a worker stopped while the block runs; others accept meanwhile.

        Being stopped ends a wait for a semaphore, so it does not come to him in his turn.
        """
        pid = self.worker_pid(p_id)
        until(lambda: self._try_to_stop_waiter(pid), f"{pid} to be stopped while others accept")
        try:
            yield
        finally:
            processes.continue_process(pid)

    def _try_to_stop_accept_holder(self) -> int:
        pid = self.accept_holder()
        processes.stop_process(pid)
        if self.objects.semaphore("accept").holder_pid() == pid:
            return pid
        processes.continue_process(pid)
        return 0

    def _try_to_stop_waiter(self, pid: int) -> bool:
        processes.stop_process(pid)
        if self.objects.semaphore("accept").holder_pid() != pid:
            return True
        processes.continue_process(pid)
        # A connection for him to accept, so that it is somebody else's turn.
        LineClient.connect(self.addresses[0]).close()
        return False

    # The end

    def finish(self) -> None:
        """End the daemon, in order if it still runs, and fail unless all of it has gone.

        That is: exit code 0 if it was running, no process of its group, none of its IPC objects nor
        any new one, nothing in its log that the test has not said it expects.
        """
        if self._is_finished:
            return
        try:
            self._clients.close()
            if self._process.poll() is None:
                code = self.stop()
                assert code == 0, f"exit code {code} after SIGTERM:\n{self.log}"
            self.log.wait_for_end(PATIENCE_SECONDS)
            self._check_nothing_is_left()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Kill what is left of it, whatever that is, and let go of the log."""
        self._is_finished = True
        self._clients.close()
        super().abandon()
        self.objects.remove()

    def _check_nothing_is_left(self) -> None:
        # A process lets go of its log a moment before it has ended.
        until(lambda: not self.survivors(), f"processes {self.survivors()} to end:\n{self.log}")
        left = (self.objects.existing() | used_by(self._all_pids())) - self._strange_objects
        assert not left, f"{left} left:\n{self.log}"
        # Other daemons make shared memory, too, and unlink it at once.
        until(lambda: posix_names() <= self._strange_objects, "POSIX objects to go")
        self._check_log()

    def _check_log(self) -> None:
        complaints = self.log.complaints()
        assert not complaints, "in the log:\n" + "\n".join(complaints)

    def _all_pids(self) -> set[int]:
        spawned = (log.WORKER_SPAWNED, log.ATTENDANT_SPAWNED)
        return {self.pid, *(event["pid"] for kind in spawned for event in self.log.events(kind))}


StartDaemon: TypeAlias = Callable[..., Daemon]
"""The type of the fixture `start_daemon`: options of `Daemon`, its directory excepted."""


@contextmanager
def daemons(directory: Path) -> Iterator[StartDaemon]:
    """Give a function that starts daemons, in folders of their own in `directory`.

    All of them are ended and checked at the end of the block.
    """
    with ExitStack() as stack:
        numbers = count(1)

        def start(**options: Any) -> Daemon:
            folder = directory / f"daemon-{next(numbers)}"
            folder.mkdir()
            daemon = Daemon.start(folder, **options)
            stack.callback(daemon.finish)
            return daemon

        yield start


def _flag(flag: str, value: object) -> list[str]:
    name = flag.replace("_", "-")
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case list() | tuple():
            return [word for each in value for word in (f"--{name}", str(each))]
        case _:
            return [f"--{name}", str(value)]
