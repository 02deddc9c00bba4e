"""What a configuration may say, what is refused, and with which words."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_chat.addresses import Address, parse_address
from prefork_chat.config import Config, ServerConfig, resolve_runtime_dir, resolve_state_dir
from prefork_chat.errors import ConfigError
from prefork_chat.loading import load
from prefork_chat.options import options


def refusal(tmp_path: Path, text: str) -> str:
    """Return what `load` says of a file with this text, without the file's name before it."""
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert caught.value.exit_code == 2
    return message.removeprefix(f"{path}: ")


def test_without_a_file_everything_has_its_default() -> None:
    assert load(None) == Config()
    assert load(None).server.listen == ("127.0.0.1:7000",)


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text('[server]\nworkers = 4\nlisten = ["[::1]:7000"]\nlogin_seconds = 5\n')
    loaded = load(path)
    assert loaded.server == ServerConfig(workers=4, listen=("[::1]:7000",), login_seconds=5.0)
    assert loaded.limits == Config().limits


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text("[server]\nworkers = 4\nthreads = 3\n")
    loaded = load(path, {"server.workers": 6, "log.level": "debug"})
    assert (loaded.server.workers, loaded.server.threads) == (6, 3)
    assert loaded.log.level == "debug"


def test_there_is_room_for_more_workers_and_never_for_fewer() -> None:
    assert ServerConfig(workers=2).worker_places == 8
    assert ServerConfig(workers=12).worker_places == 12
    assert ServerConfig(workers=3, max_workers=2).worker_places == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nworkers = 0", "server.workers: expected int >= 1"),
        ("[server]\nworkers = 65", "server.workers: expected int <= 64"),
        ("[server]\nworkers = true", "server.workers: expected int, got bool"),
        ("[server]\nworkers = '2'", "server.workers: expected int, got str"),
        ("[server]\nturn_lock = 1", "server.turn_lock: expected bool, got int"),
        ("[server]\nwatchdog_seconds = 0.4", "server.watchdog_seconds: expected float >= 0.5"),
        ("[server]\nlogin_seconds = nan", "server.login_seconds: expected float > 0.0"),
        ("[server]\nlogin_seconds = inf", "server.login_seconds: expected float <= 1000000.0"),
        ("[server]\nlisten = []", "server.listen: expected list of length >= 1"),
        ("[server]\nlisten = [7000]", "server.listen[0]: expected str, got int"),
        ("[log]\nlevel = 'loud'", "log.level: expected one of debug, error, info, warning"),
        ("[server]\nworkrs = 2", "server.workrs: unknown key, did you mean workers?"),
        ("[server]\nzzz = 2", "server.zzz: unknown key"),
        ("workers = 2", "workers: unknown key, it stands under [server]"),
        ("[log]\nworkers = 2", "log.workers: unknown key, it stands under [server]"),
        ("[server]\nlisten = '[::1]:1'", "server.listen: expected list, got str"),
        ("[board]\nmode = 'rw'", "board.mode: expected permissions in octal, such as 0640"),
        ("[[ingress]]\nkind = 'fifo'", "ingress[0].path: this key must be given"),
        (
            "[[ingress]]\nkind = 'pipe'\npath = '/in'\nname = 'a'",
            "ingress[0].kind: expected one of fifo, posix-queue, sysv-queue",
        ),
        (
            "[[ingress]]\nkind = 'fifo'\npath = 'in'\nname = 'a'",
            "ingress[0].path: expected a path or name that begins with /",
        ),
        (
            "[[ingress]]\nkind = 'fifo'\npath = '/in'\nname = 'a b'",
            "ingress[0].name: expected a name: 1-32 of A-Z a-z 0-9 _ . -, a letter or digit first",
        ),
        ("[[ingress]]\nkid = 'fifo'", "ingress[0].kid: unknown key"),
        ("[severs]\nworkers = 2", "severs: unknown key, did you mean server?"),
        ("server = 2", "server: expected table, got int"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_path(
    tmp_path: Path, text: str, message: str
) -> None:
    assert refusal(tmp_path, text) == message


def test_a_file_that_is_not_toml_is_refused_with_the_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[server]\nworkers = \n").startswith("not TOML: ")
    assert "line 2" in refusal(tmp_path, "[server]\nworkers = \n")


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin1.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: No such file or directory"):
        load(tmp_path / "gone.toml")


def test_a_wrong_value_from_the_command_line_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "right.toml"
    path.write_text("[server]\nworkers = 4\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {"server.workers": 99})
    assert str(caught.value) == "command line: server.workers: expected int <= 64"


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[respawn]\nbackoff_max_seconds = 0.01") == (
        "respawn.backoff_max_seconds: expected at least respawn.backoff_min_seconds"
    )
    assert "listed twice" in refusal(tmp_path, "[server]\nlisten = ['[::1]:1', '[::1]:1']")
    assert "listed twice" in refusal(tmp_path, "[server]\nlisten = ['unix:/a', 'unix:/a']")
    twice_any_port = load(None, {"server.listen": ["127.0.0.1:0", "127.0.0.1:0"]})
    assert len(twice_any_port.server.listen) == 2


@pytest.mark.parametrize("endless", ["nan", "inf", "-inf"])
def test_no_option_takes_a_number_that_is_none(endless: str) -> None:
    floats = [option for option in options() if isinstance(option.default, float)]
    assert len(floats) > 5
    for option in floats:
        with pytest.raises(ConfigError, match=option.key_path):
            load(None, {option.key_path: float(endless)})


def test_every_option_is_described() -> None:
    for option in options():
        assert option.description.endswith("."), option.key_path
        assert len(option.description) < 180, option.key_path


def test_every_default_lies_within_its_own_bounds() -> None:
    """`Config()` itself is not checked by msgspec, only what is converted."""
    everything = {option.key_path: option.default for option in options()}
    assert load(None, everything) == Config()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", Address("tcp", host="127.0.0.1", port=7000)),
        ("localhost:0", Address("tcp", host="localhost", port=0)),
        ("[::]:65535", Address("tcp", host="::", port=65535)),
        ("[fe80::1%eth0]:7000", Address("tcp", host="fe80::1%eth0", port=7000)),
        ("unix:/run/chat.sock", Address("unix", path="/run/chat.sock")),
        ("unix:chat.sock", Address("unix", path="chat.sock")),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7000",
        ":7000",
        "localhost",
        "localhost:",
        "localhost:65536",
        "localhost:-1",
        "localhost:http",
        "localhost:\N{ARABIC-INDIC DIGIT SEVEN}",
        "::1:7000",
        "[::1]",
        "[127.0.0.1]:7000",
        "[::1:7000",
        "a b:7000",
        "unix:",
        "unix:a\0b",
        "unix:/" + 107 * "x",
    ],
)
def test_what_is_not_an_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)
    with pytest.raises(ConfigError, match=r"server\.listen\[0\]"):
        load(None, {"server.listen": [text]})


values = st.recursive(st.integers() | st.text() | st.floats(), st.lists, max_leaves=5)


@given(st.text(alphabet=string.printable + "é\0"))
def test_no_text_breaks_the_address_parser(text: str) -> None:
    try:
        address = parse_address(text)
    except ConfigError:
        return
    assert parse_address(str(address)) == address


@given(st.dictionaries(st.text(), values))
def test_no_table_breaks_the_loader(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load(None, {"server.no_such_key": table})
    try:
        load(None, {f"server.{key}": value for key, value in table.items()})
    except ConfigError:
        pass


def test_the_configured_runtime_directory_wins() -> None:
    configured = Config(server=ServerConfig(runtime_dir="chat"))
    assert resolve_runtime_dir(configured, {"RUNTIME_DIRECTORY": "/run/x"}) == (Path.cwd() / "chat")


def test_the_runtime_directory_comes_from_systemd_then_session_then_tmp() -> None:
    resolve = resolve_runtime_dir
    session = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert resolve(Config(), session | {"RUNTIME_DIRECTORY": "/run/a:/run/b"}) == Path("/run/a")
    assert resolve(Config(), session) == Path("/run/user/7/prefork-chat")
    assert resolve(Config(), {}) == Path(f"/tmp/prefork-chat-{os.getuid()}")


def test_the_configured_state_directory_wins() -> None:
    configured = Config(server=ServerConfig(state_dir="kept"))
    assert resolve_state_dir(configured, {"STATE_DIRECTORY": "/var/lib/x"}) == (Path.cwd() / "kept")


def test_the_state_directory_comes_from_systemd_then_session_then_home() -> None:
    resolve = resolve_state_dir
    session = {"XDG_STATE_HOME": "/home/a/state"}
    assert resolve(Config(), session | {"STATE_DIRECTORY": "/var/lib/a:/b"}) == Path("/var/lib/a")
    assert resolve(Config(), session) == Path("/home/a/state/prefork-chat")
    assert resolve(Config(), {}) == Path.home() / ".local/state/prefork-chat"
