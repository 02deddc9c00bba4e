"""Every server of the comparison, as it takes part: started, spoken to in its dialect, ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import daemon, processes
from benchmarks.load import Load, Outcome, run
from benchmarks.peers import debian, ircds
from benchmarks.peers.contestants import Contestant, assemble
from benchmarks.peers.programs import PeerError, free_port, serve_on_port, serve_on_port_it_prints
from benchmarks.rounds import Setup, run_round

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("prefork_chat", "ngircd", "inspircd", "streams", "uvloop", "router")
LOADS = {
    "direct": Load(clients=10, in_flight=4),
    "room": Load(clients=6, talkers=2, in_flight=4, room=True),
    "joins": Load(mode="join", lanes=4),
}


@pytest.fixture(scope="module")
def contestants() -> dict[str, Contestant]:
    return {each.name: each for each in assemble({}, None).contestants}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every server is given a folder of its own, and takes it and its processes away again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(processes.tree(os.getpid()))
    yield
    assert set(processes.tree(os.getpid())) <= before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("prefork-chat-bench")]


@pytest.mark.parametrize("load_name", LOADS)
@pytest.mark.parametrize("name", NAMES)
def test_a_server_of_the_comparison_is_sound_under_a_short_load(
    loadgen: Path, contestants: dict[str, Contestant], name: str, load_name: str
) -> None:
    if name not in contestants:
        pytest.skip(f"{name} is not on this machine")
    contestant = contestants[name]
    load = LOADS[load_name]
    seconds = max(0.2, contestant.least_join_seconds if load.mode == "join" else 0.0)
    short = contestant.fit(
        Load(
            mode=load.mode,
            clients=load.clients,
            talkers=load.talkers,
            in_flight=load.in_flight,
            room=load.room,
            lanes=load.lanes,
            warm_up_seconds=0.05,
            seconds=seconds,
        )
    )
    setup = Setup(binary=loadgen, start=contestant.start, generator_cpus=None)
    found = run_round(setup, short, 1, lambda _: None)
    assert found.trouble == {}
    assert found.figures.get("messages_per_second", 1) > 0
    assert found.figures.get("joins_per_second", 1) > 0
    assert found.figures["server_us"] > 0


@pytest.mark.parametrize("name", ["ngircd", "inspircd"])
def test_an_irc_server_has_a_variant_that_does_not_wait_for_acknowledgements(
    contestants: dict[str, Contestant], name: str
) -> None:
    if name not in contestants:
        pytest.skip(f"{name} is not on this machine")
    quick = contestants[f"{name}-quick"]
    assert quick.fit(Load()).quick_ack
    assert quick.takes(Load(in_flight=1))
    assert quick.takes(Load(rate=5000))
    assert not quick.takes(Load(in_flight=32))
    assert not quick.takes(Load(mode="idle"))


def test_the_daemon_takes_part_in_both_durabilities_with_and_without_receipts(
    contestants: dict[str, Contestant],
) -> None:
    ours = ["prefork_chat", "prefork_chat-quiet", "fast", "fast-quiet"]
    assert [name for name in contestants if name in ours] == ours
    assert [contestants[name].receipts for name in ours] == [True, False, True, False]
    assert contestants["prefork_chat"].takes(Load(mode="join"))
    assert not contestants["fast"].takes(Load(mode="join"))
    assert not contestants["fast"].takes(Load(clients=1000, talkers=200))
    assert contestants["fast"].takes(Load(in_flight=1))
    assert not contestants["fast"].takes(Load(clients=1000))
    assert contestants["fast-quiet"].takes(Load(clients=1000))


def test_who_is_not_here_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.peers.debian.find", lambda _: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    field = assemble({}, None)
    names = [each.name for each in field.contestants]
    assert not {"ngircd", "inspircd", "uvloop"} & set(names)
    assert {"streams", "router"} <= set(names)
    assert [note.split()[0] for note in field.notes] == ["ngIRCd", "InspIRCd", "uvloop"]


def test_configurations_of_irc_servers_have_every_brake_off(tmp_path: Path) -> None:
    ngircd = ircds.ngircd_config(6667)
    for line in ("MaxConnectionsIP = 0", "MaxPenaltyTime = 0", "DNS = no", "Ident = no"):
        assert line in ngircd.splitlines()
    inspircd = ircds.inspircd_config(6667, tmp_path, Path("/modules"))
    assert 'port="6667"' in inspircd
    assert 'fakelag="no"' in inspircd
    assert f'logdir="{tmp_path}"' in inspircd


def test_a_peer_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    with (
        pytest.raises(PeerError, match="no such option"),
        serve_on_port(command, tmp_path, None, free_port(), {}),
    ):
        pass
    with (
        pytest.raises(PeerError, match="no such option"),
        serve_on_port_it_prints(command, tmp_path, None),
    ):
        pass


def test_a_peer_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.peers.programs.STOP_SECONDS", 0.1)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    with serve_on_port_it_prints([sys.executable, "-c", deaf], tmp_path, None) as server:
        assert server.pid is not None
        assert server.pid in processes.tree(os.getpid())
    assert server.pid not in processes.tree(os.getpid())


def apt(folder: Path, script: str) -> str:
    """A folder to be $PATH, with an apt-get and a dpkg-deb that do what `script` says."""
    commands = folder / "commands"
    commands.mkdir()
    for name in ("apt-get", "dpkg-deb"):
        path = commands / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return f"{commands}:{os.environ['PATH']}"


def test_packages_are_unpacked_into_the_cache_and_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    script = f"""
echo "$0 $*" >> {tmp_path}/calls
case "$0" in
*apt-get) touch {cache}/archives/ngircd_1_amd64.deb ;;
*) mkdir -p "$3/usr/sbin" "$3/usr/lib/x86_64-linux-gnu" && touch "$3/usr/sbin/ngircd" ;;
esac"""
    monkeypatch.setenv("PATH", apt(tmp_path, script))
    monkeypatch.setattr("benchmarks.peers.debian._PLACES", ())
    assert debian.find("ngircd", cache) is None
    debian.fetch(cache)
    assert debian.find("ngircd", cache) == cache / "root/usr/sbin/ngircd"
    assert debian.environment(cache)["LD_LIBRARY_PATH"].endswith("root/usr/lib/x86_64-linux-gnu")
    fetching, unpacking = (tmp_path / "calls").read_text().splitlines()
    assert "--download-only" in fetching
    assert "--extract" in unpacking


def test_a_fetch_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", apt(tmp_path, "echo 'no such package' >&2; exit 100"))
    with pytest.raises(debian.FetchError, match=r"no such package.*apt-get update"):
        debian.fetch(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(debian.FetchError, match="apt-get, which is not here"):
        debian.fetch(tmp_path / "cache")


def test_a_program_of_the_machine_comes_before_a_fetched_one(tmp_path: Path) -> None:
    fetched = tmp_path / "root" / "usr" / "sbin" / "env"
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    found = debian.find("env", tmp_path)
    assert found is not None
    assert found != fetched


def test_the_daemon_has_room_for_all_clients_of_a_load() -> None:
    assert daemon.roomy({}, 10_000) == {}
    assert daemon.roomy({}, 18_200) == {"server.max_clients": "18200"}
    assert daemon.roomy({"server.max_clients": "5"}, 18_200) == {"server.max_clients": "5"}


def test_the_bare_router_frees_names_and_serves_who_comes_again(
    loadgen: Path, contestants: dict[str, Contestant]
) -> None:
    with contestants["router"].start(Load()) as server:
        for seed in (1, 2):
            load = Load(clients=300, in_flight=2, warm_up_seconds=0, seconds=0.1)
            *_, found = run(loadgen, load, server.address, seed, None)
            assert isinstance(found, Outcome)
            assert found.trouble() == {}
        *_, found = run(loadgen, Load(mode="join", seconds=0.3), server.address, 3, None)
        assert isinstance(found, Outcome)
        assert found.cycles > 100


def test_versions_of_irc_servers_are_one_line(contestants: dict[str, Contestant]) -> None:
    program = debian.find("ngircd")
    if program is None:
        pytest.skip("ngircd is not on this machine")
    assert ircds.version(program).startswith("ngIRCd ")
    assert "\n" not in ircds.version(program)
