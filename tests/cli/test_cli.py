"""The command as people and scripts run it: a process, its output and its exit code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import msgspec
import pytest

from prefork_chat import __version__
from prefork_chat.addresses import parse_address
from prefork_chat.cli import options, serve
from prefork_chat.cli.main import build_parser, main
from prefork_chat.config import Config, IngressConfig, ServerConfig
from prefork_chat.loading import load
from prefork_chat.options import options as all_options
from tests.harness.program import ROOT

DEADLINE_SECONDS = 20.0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "prefork_chat", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_checkout_has_the_command_after_make(tmp_path: Path) -> None:
    """Although no package is installed there: all that the README says is typed so."""
    command = ROOT / ".venv" / "bin" / "prefork-chat"
    result = subprocess.run([command, "--version"], capture_output=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stdout) == (0, f"prefork-chat {__version__}\n".encode())


def test_nobody_is_told_where_to_talk_before_there_is_somebody_to_talk_to(tmp_path: Path) -> None:
    where = f"--runtime-dir={tmp_path}/run", f"--state-dir={tmp_path}/state"
    failed = run("serve", *where, "--listen", f"unix:{tmp_path}/gone/chat")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "its directory does not exist" in failed.stderr
    failed = run("serve", *where, "--listen", "192.0.2.1:7000")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "this machine does not have that address" in failed.stderr


def test_the_version_is_told() -> None:
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"prefork-chat {__version__}\n")


def test_without_a_subcommand_the_help_is_printed_and_the_exit_code_is_2() -> None:
    result = run()
    assert result.returncode == 2
    assert "check-config" in result.stderr
    assert result.stdout == ""


def test_an_unknown_option_ends_with_exit_code_2() -> None:
    assert run("serve", "--worker", "3").returncode == 2


def test_a_wrong_configuration_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("[server]\nworkers = 0\n")
    for arguments in (["check-config", str(path)], ["serve", "--config", str(path)]):
        result = run(*arguments)
        assert result.returncode == 2
        assert result.stderr == f"prefork-chat: {path}: server.workers: expected int >= 1\n"


def test_a_wrong_flag_value_is_refused_before_anything_starts() -> None:
    result = run("serve", "--workers", "0")
    assert result.returncode == 2
    assert result.stderr == "prefork-chat: command line: server.workers: expected int >= 1\n"


def test_check_config_says_that_a_right_file_is_right(tmp_path: Path) -> None:
    path = tmp_path / "right.toml"
    path.write_text("[server]\nworkers = 3\n")
    result = run("check-config", str(path))
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: ok\n", "")


def test_the_printed_example_passes_check_config(tmp_path: Path) -> None:
    example = run("check-config", "--example")
    assert example.returncode == 0
    path = tmp_path / "example.toml"
    path.write_text(example.stdout)
    assert run("check-config", str(path)).returncode == 0


def test_serve_help_names_every_option_with_its_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for option in all_options():
        assert f"  {options.flag(option)}" in text
        assert option.description in text


def test_every_option_can_be_given_as_a_flag() -> None:
    other: dict[type, object] = {bool: True, int: 200_000, float: 0.75, str: "0700", tuple: ["::"]}
    for option in all_options():
        value = option.choices[-1] if option.choices else other[type(option.default)]
        words = [options.flag(option)]
        match value:
            case bool():
                pass
            case list():
                words += value
            case _:
                words.append(str(value))
        arguments = build_parser().parse_args(["serve", *words])
        assert options.overrides(arguments) == {option.key_path: value}


def test_a_switch_can_be_switched_off() -> None:
    arguments = build_parser().parse_args(["serve", "--no-turn-lock"])
    assert load(None, options.overrides(arguments)).server.turn_lock is False


def test_listen_may_be_given_several_times_and_replaces_the_file_s(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('[server]\nlisten = ["127.0.0.1:1"]\nthreads = 3\n')
    words = ["serve", "--config", str(path), "--listen", "[::1]:7000", "--listen", "unix:/x"]
    arguments = build_parser().parse_args(words)
    loaded = load(arguments.config, options.overrides(arguments))
    assert loaded.server == ServerConfig(threads=3, listen=("[::1]:7000", "unix:/x"))


def test_a_daemon_whose_standard_descriptors_were_closed_has_none_of_its_own_there(
    tmp_path: Path,
) -> None:
    """Logs would go into a socket that happens to be number 2."""
    path = tmp_path / "socket"
    options_ = f"--listen unix:{path} --runtime-dir {tmp_path} --workers 1 --threads 1"
    command = f"exec {sys.executable} -m prefork_chat serve {options_} <&- >&- 2>&-"
    with (
        subprocess.Popen(["sh", "-c", command]) as daemon,
        socket.socket(socket.AF_UNIX) as client,
    ):
        try:
            client.settimeout(DEADLINE_SECONDS)
            connect_when_there(client, path)
            assert client.recv(100).startswith(b"OK HELO ")
            opened = [os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in range(3)]
        finally:
            daemon.terminate()
        assert daemon.wait(DEADLINE_SECONDS) == 0
    assert opened == [os.devnull] * 3


def connect_when_there(client: socket.socket, path: Path) -> None:
    """Connect to a Unix socket that will be there soon."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while client.connect_ex(str(path)) != 0:
        assert time.monotonic() < deadline, f"nobody listens at {path}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("listen", "command"),
    [
        ("127.0.0.1:7000", "nc 127.0.0.1 7000"),
        ("0.0.0.0:7000", "nc 127.0.0.1 7000"),
        ("[::]:7000", "nc ::1 7000"),
        ("unix:/run/chat.sock", "nc -U /run/chat.sock"),
        ("localhost:0", "nc localhost PORT (the log below tells it)"),
    ],
)
def test_serve_says_how_to_talk_to_it(listen: str, command: str) -> None:
    assert serve.netcat(parse_address(listen)) == command
    assert command in serve.welcome(Config(server=ServerConfig(listen=(listen,))))


def test_the_example_beside_the_systemd_units_is_the_one_that_the_command_prints() -> None:
    shipped = Path(__file__).parents[2] / "systemd" / "prefork-chat.toml"
    assert shipped.read_text(encoding="utf-8") == options.example_file()


def test_the_example_uncommented_says_the_defaults() -> None:
    text = options.example_file()
    assert {*tomllib.loads(text), "ingress"} == set(Config.__struct_fields__)
    text, _, ingress = text.partition("#[[ingress]]")
    lines = [line.removeprefix("#") if line[1:2] != " " else line for line in text.splitlines()]
    tables = tomllib.loads("\n".join(lines))
    shown = {f"{table}.{key}": value for table in tables for key, value in tables[table].items()}
    assert list(shown) == [option.key_path for option in all_options()]
    assert load(None, shown) == Config()
    lines = [line.removeprefix("#") if line[1:2] != " " else line for line in ingress.splitlines()]
    (only,) = tomllib.loads("\n".join(["[[ingress]]", *lines]))["ingress"]
    assert msgspec.convert(only, IngressConfig) == IngressConfig(
        kind="fifo", path="/run/prefork-chat/in", name="cron"
    )
    assert list(only) == list(IngressConfig.__struct_fields__)
