"""`prefork-chat ipc` as people run it: processes, bytes on stdout, words on stderr, exit codes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from prefork_chat.channels import mechanisms
from prefork_chat.channels.names import FIFO, PIPE, SHARED_MEMORY, SOCKET, SYSV_QUEUE
from tests.channels.command import DEADLINE_SECONDS, Command, end, started
from tests.channels.traces import traces
from tests.registry.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY: Final = 65534
_DATA: Final = os.urandom(200_000) + b"\0\n" + bytes(range(256)) * 2000


@pytest.fixture
def command(key: Path, ledger: Path) -> Command:
    return Command(key, ledger)


def is_served(command: Command, *, by: int) -> bool:
    """Say whether that process serves now, with its objects made."""
    listed = list(mechanisms.list_channels(command.ledger))
    return bool(listed) and listed[0].server_pid == by and len(_traces(command)) > 1


def _traces(command: Command) -> set[str]:
    return traces(command.key, command.ledger)


def has_reader(command: Command) -> bool:
    return any(listed.reader_pid for listed in mechanisms.list_channels(command.ledger))


def test_a_file_is_displayed_byte_for_byte(
    command: Command, mechanism: str, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(_DATA)
    with started(command.channel("serve", mechanism, str(tmp_path / "data"))) as server:
        result = command.run(command.channel("read", mechanism, "--wait", "20"))
        assert (result.returncode, result.stdout == _DATA) == (0, True)
        code, out, errors = end(server)
    assert (code, out) == (0, b"")
    size = f"{len(_DATA):,} bytes, ".encode()
    assert errors.startswith(b"sent " + size)
    assert result.stderr.startswith(b"received " + size)


def test_a_big_standard_input_goes_through(
    command: Command, mechanism: str, tmp_path: Path
) -> None:
    data = os.urandom(1 << 20) * 24
    (tmp_path / "data").write_bytes(data)
    with (
        started(["cat", str(tmp_path / "data")]) as cat,
        started(command.channel("serve", mechanism, "--quiet"), stdin=stdout_of(cat)) as server,
    ):
        result = command.run(command.channel("read", mechanism, "--wait", "20", "--quiet"))
        assert (result.returncode, result.stdout == data, result.stderr) == (0, True, b"")
        assert end(server) == (0, b"", b"")


def stdout_of(process: subprocess.Popen[bytes]) -> int:
    """Return the descriptor of its output."""
    assert process.stdout is not None
    return process.stdout.fileno()


def test_the_shell_makes_the_pipe() -> None:
    ipc = f"{sys.executable} -m prefork_chat ipc"
    line = f"head -c 3000000 /dev/zero | {ipc} serve --via pipe | {ipc} read --via pipe | wc -c"
    result = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)
    assert result.stdout.strip() == b"3000000"


def test_without_a_pipe_the_user_is_told_how_to_make_one() -> None:
    for verb in ("serve", "read"):
        words = [sys.executable, "-m", "prefork_chat", "ipc", verb, "--via", "pipe"]
        result = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
        assert result.returncode == 2
        assert b"ipc serve --via pipe FILE | prefork-chat ipc read --via pipe" in result.stderr
        assert b"is no pipe, and there is no --key PATH" in result.stderr


def test_mistakes_have_their_words_and_exit_codes(command: Command, tmp_path: Path) -> None:
    nowhere = Command(tmp_path / "missing", command.ledger)
    words = [sys.executable, "-m", "prefork_chat", "ipc", "read", "--via", "fifo"]
    for line, code, text in (
        (command.channel("read", FIFO), 4, b"fifo channel of "),
        (command.channel("read", SYSV_QUEUE), 4, b"no System V queue 0x"),
        (nowhere.channel("read", FIFO), 2, b"missing does not exist: make it with touch"),
        (nowhere.channel("serve", FIFO), 2, b"missing does not exist: make it with touch"),
        (words, 2, b"--via fifo needs --key PATH"),
        (command.channel("read", "telepathy"), 2, b"telepathy"),
        (command.channel("read", FIFO, "--wait", "soon"), 2, b"not a number of seconds: soon"),
        (command.channel("read", FIFO, "--wait", "nan"), 2, b"not between 0 and 1e9: nan"),
        (command.words("bench", "--plot", "/no/where.svg"), 1, b"there is no directory /no"),
        (command.channel("serve", FIFO, str(tmp_path / "no-file")), 1, b"cannot read"),
        (command.channel("serve", FIFO, str(tmp_path)), 1, b"Is a directory"),
        (command.channel("serve", SYSV_QUEUE, "--wait", "0.05"), 8, b"no reader came in time"),
    ):
        if code == 1 and line[-1] == str(tmp_path):
            with started(command.channel("read", FIFO, "--wait", "20")):
                result = command.run(line)
        else:
            result = command.run(line)
        assert (result.returncode, result.stdout) == (code, b""), (line, result)
        assert text in result.stderr
        assert b"Traceback" not in result.stderr


def test_a_second_server_and_a_second_reader_are_refused(command: Command) -> None:
    with (
        started(command.channel("serve", FIFO), stdin=subprocess.PIPE) as server,
        started(command.channel("read", FIFO, "--wait", "20")) as reader,
    ):
        until(lambda: has_reader(command))
        second = command.run(command.channel("serve", FIFO))
        assert second.returncode == 3
        assert f"served by fifo already: pid {server.pid}".encode() in second.stderr
        second = command.run(command.channel("read", FIFO))
        assert second.returncode == 3
        assert f"being read already, by pid {reader.pid}".encode() in second.stderr
        assert server.stdin is not None
        server.stdin.close()
        server.stdin = None
        assert end(reader)[0] == end(server)[0] == 0


@pytest.fixture
def common_directory() -> Iterator[Path]:
    """A directory that everybody may enter: pytest closes those of its own to all others."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_not_permitted(common_directory: Path) -> None:
    becoming = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    (key := common_directory / "key").touch()
    command = Command(key, common_directory / "ledger")
    other = Command(key, common_directory / "nobody")
    other.ledger.mkdir()
    os.chown(other.ledger, _NOBODY, _NOBODY)
    for mechanism in (SYSV_QUEUE, SHARED_MEMORY):
        with started(command.channel("serve", mechanism), stdin=subprocess.PIPE) as server:
            until(lambda: is_served(command, by=server.pid))
            result = other.run([*becoming, *other.channel("read", mechanism)])
            assert result.returncode == 6, result.stderr
            assert b"no permission, it is another user's" in result.stderr
            server.terminate()
            assert end(server)[0] == 128 + signal.SIGTERM
    with started(command.channel("serve", FIFO), stdin=subprocess.PIPE) as server:
        until(lambda: is_served(command, by=server.pid))
        result = command.run([*becoming, *command.channel("read", FIFO)])
        assert result.returncode == 6, result.stderr
        assert b"Permission denied" in result.stderr
        server.terminate()
        assert end(server)[0] == 128 + signal.SIGTERM


def test_list_and_clean_know_the_living_from_the_dead(command: Command, mechanism: str) -> None:
    with started(command.channel("serve", mechanism), stdin=subprocess.PIPE) as server:
        until(lambda: is_served(command, by=server.pid))
        rows = command.run(command.words("list")).stdout.decode().splitlines()
        assert rows[1].split()[2:] == [str(server.pid), "-", "waiting", str(command.key)]
        assert command.run(command.words("clean")).stdout == b""
        assert len(_traces(command)) > 1
        server.kill()
        server.wait()
    rows = command.run(command.words("list")).stdout.decode().splitlines()
    assert rows[1].split()[4:6] == ["left", "over"]
    stale = command.run(command.channel("read", mechanism))
    assert (stale.returncode, stale.stdout) == (5, b"")
    assert b"ipc clean" in stale.stderr
    cleaned = command.run(command.words("clean")).stdout.decode()
    assert cleaned.startswith(f"removed: {mechanism} channel 0x")
    assert cleaned.endswith(f"left by pid {server.pid}\n")
    listed = command.run(command.words("list"))
    assert (listed.stdout, listed.stderr) == (b"", b"no channels\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_both_sides_in_order(command: Command, number: signal.Signals) -> None:
    with (
        started(command.channel("serve", SHARED_MEMORY), stdin=subprocess.PIPE) as server,
        started(command.channel("read", SHARED_MEMORY, "--wait", "20")) as reader,
    ):
        until(lambda: has_reader(command))
        server.send_signal(number)
        code, _, errors = end(server)
        assert (code, errors) == (128 + number, b"")
        code, _, errors = end(reader)
        assert code == 7
        assert errors == b"prefork-chat: the server has gone before the end of the stream\n"


def test_a_server_at_its_prompt_notices_that_its_reader_is_killed(
    command: Command, mechanism: str
) -> None:
    with (
        started(command.channel("serve", mechanism), stdin=subprocess.PIPE) as server,
        started(command.channel("read", mechanism, "--wait", "20")) as reader,
    ):
        assert server.stdin is not None
        server.stdin.write(b"prompt ")
        server.stdin.flush()
        assert reader.stdout is not None
        assert reader.stdout.read(7) == b"prompt "
        reader.kill()
        server.wait(DEADLINE_SECONDS)
        assert server.returncode == 7
        assert server.stderr is not None
        assert server.stderr.read() == b"prefork-chat: the reader has gone\n"


def test_a_reader_whose_output_is_closed_ends_quietly(command: Command) -> None:
    line = " ".join(command.channel("read", SOCKET, "--wait", "20")) + " | head -c 3"
    with started(command.channel("serve", SOCKET, "/dev/zero")) as server:
        result = subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False)
        assert (result.stdout, result.stderr) == (b"\0\0\0", b"")
        assert end(server)[0] == 7


def test_progress_is_drawn_on_a_terminal(command: Command) -> None:
    terminal, slave = pty.openpty()
    with (
        started(command.channel("serve", FIFO), stdin=subprocess.PIPE) as server,
        (command.ledger.parent / "out").open("wb") as out,
    ):
        words = command.channel("read", FIFO, "--wait", "20")
        reader = subprocess.Popen(words, stdin=slave, stdout=out, stderr=slave)
        os.close(slave)
        assert server.stdin is not None
        seen = b""
        while b"\r\x1b[Kreceived " not in seen:
            server.stdin.write(b"x" * 1000)
            server.stdin.flush()
            if select_readable(terminal):
                seen += os.read(terminal, 1000)
        server.stdin.close()
        server.stdin = None
        assert reader.wait(DEADLINE_SECONDS) == 0
        assert end(server)[0] == 0
    os.close(terminal)


def select_readable(fd: int) -> bool:
    """Say whether there is something to read, after a short wait."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(10))


def test_bench_measures_every_size_and_leaves_nothing(command: Command) -> None:
    words = command.words("bench", "--seconds", "0.01", "--via", PIPE, "--via", SHARED_MEMORY)
    result = command.run(words)
    assert (result.returncode, result.stderr) == (0, b"")
    rows = [row.split() for row in result.stdout.decode().splitlines()]
    assert [row[:3] for row in rows[1:]] == [
        [mechanism, *size.split()]
        for mechanism in (PIPE, SHARED_MEMORY)
        for size in ("64 B", "1 KiB", "64 KiB")
    ]
    assert all(float(row[3].replace(",", "")) > 0 for row in rows[1:])


def test_bench_without_matplotlib_says_what_to_install(command: Command, tmp_path: Path) -> None:
    """It is made impossible to find, whether it is installed or not."""
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a)\n"
        "from prefork_chat.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "ipc", "bench", "--plot", str(tmp_path / "picture.svg")]
    result = command.run(words)
    assert (result.returncode, result.stdout) == (1, b"")
    assert b"pip install 'prefork-chat[bench]'" in result.stderr


def test_bench_draws_a_picture(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    picture = tmp_path / "picture.svg"
    words = command.words("bench", "--seconds", "0.01", "--via", PIPE, "--plot", str(picture))
    assert command.run(words).returncode == 0
    assert "<svg" in picture.read_text(encoding="utf-8")
