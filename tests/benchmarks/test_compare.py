"""`python -m benchmarks compare`: what it measures in which order, and what it writes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import contest, markdown, matrix, micro, plots, results, rounds, turns
from benchmarks.daemon import DaemonError, Server
from benchmarks.load import Load
from benchmarks.peers.contestants import Contestant
from benchmarks.results import Document, Entry, Machine, Micro
from benchmarks.rounds import Round, Setup
from tests.benchmarks.commands import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator


def compare(*words: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    return run("compare", *words, temporary=temporary, timeout=250)


def entry(server: str, load: str, found: dict[str, float], title: str = "") -> Entry:
    figures = {"other_cores": 0.0, **found}
    low = {name: value * 0.9 for name, value in figures.items()}
    high = {name: value * 1.1 for name, value in figures.items()}
    return Entry(
        server=server,
        title=title or server,
        load=load,
        figures=figures,
        low=low,
        high=high,
        rounds=[low, figures, high],
    )


def cell(workers: int, threads: int, title: str) -> Entry:
    figures = {"server_us": 2.0, "messages_per_second": 5e5}
    found = entry("prefork_chat", "direct-200x32", figures)
    options = {"server.workers": str(workers), "server.threads": str(threads)}
    return Entry(
        server=found.server,
        title=title,
        load=found.load,
        options=options,
        figures=found.figures,
        low=found.low,
        high=found.high,
        rounds=found.rounds,
    )


@pytest.fixture
def document() -> Document:
    talk = {"messages_per_second": 600_000.0, "server_us": 1.5, "generator_cores": 0.5}
    return Document(
        date="2030-01-02",
        machine=Machine(2, "a processor", 4096, "6.1", 20_000),
        settings={"rounds": "3"},
        versions={"ngIRCd": "26.1"},
        notes=["InspIRCd is not here"],
        contest=[
            entry("prefork_chat", "direct-200x32", talk),
            entry("ngircd", "direct-200x32", {**talk, "other_cores": 0.7}, "ngIRCd"),
            entry(
                "ngircd",
                "latency",
                {"delivery_p50_us": 50.0, "delivery_p99_us": 39_000.0},
                "ngIRCd",
            ),
            entry("router", "idle-2000", {"client_pss_bytes": 437.0, "base_pss_bytes": 1e6}),
            Entry(server="x", title="x", load="joins", failure="no such server\nat all"),
            Entry(server="y", title="y", load="room-200", trouble={"lost": 3}, complaint="gone"),
            entry("z", "room-200", {**talk, "generator_cores": 0.99}),
        ],
        grid=[cell(n, t, "turn lock") for n in (1, 2) for t in (1, 2)],
        costs=[entry("prefork_chat", "direct-200x1", talk, "defaults")],
        micro=[Micro("codec: cut", "line", 120.0, 4.0)],
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_short_comparison_writes_results_report_and_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    servers = ["prefork_chat-quiet", "router", "streams"]
    words = ["--only", "direct-200x32", "latency", "joins", *servers, "--attempts", "1"]
    times = ["--rounds", "2", "--seconds", "0.2", "--warm-up", "0.1"]
    done = compare(*words, *times, "--results", str(folder), temporary=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.json")
    document = results.read(file)
    assert [(each.load, each.server) for each in document.contest] == [
        *(("direct-200x32", server) for server in ("prefork_chat-quiet", "streams", "router")),
        *(("latency", server) for server in ("prefork_chat-quiet", "streams", "router")),
        *(("joins", server) for server in ("streams", "router")),
    ]
    for each in document.contest:
        assert len(each.rounds) == 2
        assert each.low["server_us"] <= each.figures["server_us"] <= each.high["server_us"]
        assert 0 < each.figures["generator_cores"] < 1
    report = file.with_suffix(".md").read_text()
    assert "bare C router" in report
    assert {path.name for path in folder.iterdir()} >= {file.name, file.with_suffix(".md").name}
    if plots.is_possible():
        assert len(list(folder.glob("*.svg"))) == 3
        pictures = {path: path.read_bytes() for path in folder.glob("*.svg")}
        again = compare("--render", str(file), temporary=tmp_path)
        assert again.returncode == 0
        assert {path: path.read_bytes() for path in folder.glob("*.svg")} == pictures
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--only", "direct-7x7"], "no direct-7x7; see --list"),
        (["--set", "server.workers"], "expected KEY=VALUE"),
        (["--render", "/nowhere/at/all.json"], "No such file"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_reason(
    tmp_path: Path, words: list[str], reason: str
) -> None:
    done = compare(*words, temporary=tmp_path)
    assert done.returncode == 2
    assert reason in done.stderr


def test_parts_loads_and_servers_are_listed(tmp_path: Path) -> None:
    done = compare("--list", temporary=tmp_path)
    assert done.returncode == 0
    for name in ("contest", "grid", "micro", "direct-1000x32", "held", "prefork_chat", "router"):
        assert name in done.stdout


def test_a_quick_comparison_is_a_part_of_the_whole_one(tmp_path: Path) -> None:
    quick = compare("--quick", "--list", temporary=tmp_path).stdout.splitlines()
    whole = compare("--list", temporary=tmp_path).stdout.splitlines()
    assert set(quick) < set(whole)
    assert "micro              part" not in quick


def test_who_may_have_few_descriptors_holds_fewer_clients() -> None:
    held = {trial.name: trial for trial in contest.trials(20_000)}["held"]
    assert held.load.clients == 18_200 + contest.TALKERS
    assert contest.trials(1_000_000)[-1].load.clients == 30_000 + contest.TALKERS


@contextlib.contextmanager
def no_server(_: Load) -> Iterator[Server]:
    yield Server("127.0.0.1:1", None)


def broken_server(_: Load) -> contextlib.AbstractContextManager[Server]:
    raise DaemonError("it does not start")


def job(server: str, load_name: str = "load", **changes: object) -> turns.Job:
    settings = {"title": server, "load": Load(), "start": no_server, **changes}
    return turns.Job(server=server, load_name=load_name, **settings)  # type: ignore[arg-type]


def plan(count: int) -> turns.Plan:
    return turns.Plan(
        binary=Path("loadgen"),
        rounds=count,
        seconds=1,
        warm_up_seconds=0,
        attempts=3,
        generator_cpus=None,
    )


def test_servers_are_measured_in_turns_and_not_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[tuple[str, int, float]] = []

    def note(
        setup: Setup, load: Load, seed: int, tell: Callable[[int], None], attempts: int
    ) -> Round:
        with setup.start(load):
            order.append((load.dialect, seed, load.seconds))
        tell(0)
        return Round({"server_us": float(seed)}, {}, "")

    monkeypatch.setattr(turns, "run_quiet_round", note)
    jobs = [
        job("a", load=Load(dialect="native")),
        job("b", load=Load(dialect="irc"), least_seconds=3.0),
        job("c", load=Load(), once=True),
        job("d", start=broken_server),
    ]
    a, b, c, d = turns.take_turns("contest", jobs, plan(3))
    assert order[:3] == [("native", 1, 1), ("irc", 1, 3), ("native", 1, 1)]
    assert order[3:] == [("native", 2, 1), ("irc", 2, 3), ("native", 3, 1), ("irc", 3, 3)]
    assert (a.figures, a.low, a.high) == ({"server_us": 2}, {"server_us": 1}, {"server_us": 3})
    assert len(b.rounds) == 3
    assert len(c.rounds) == 1
    assert d.failure == "it does not start"
    assert d.rounds == []


def test_a_disturbed_round_is_repeated_and_the_quietest_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = iter([0.9, 0.1, 0.8, 0.3, 0.5])
    monkeypatch.setattr(
        rounds, "run_round", lambda *_: Round({"other_cores": next(others)}, {}, "")
    )
    setup = Setup(binary=Path("loadgen"), start=no_server, generator_cpus=None)
    quiet = rounds.run_quiet_round(setup, Load(), 1, lambda _: None, 3)
    assert (quiet.other_cores, quiet.discarded) == (0.1, 1)
    noisy = rounds.run_quiet_round(setup, Load(), 1, lambda _: None, 3)
    assert (noisy.other_cores, noisy.discarded) == (0.3, 2)


def test_each_contestant_meets_the_loads_that_it_takes() -> None:
    talker = Contestant(
        name="t", title="t", start=no_server, takes=lambda load: load.mode == "chat", dialect="irc"
    )
    trials = contest.trials(20_000)
    jobs = contest.jobs(trials, [talker])
    assert {job.load_name for job in jobs} == {
        trial.name for trial in trials if trial.load.mode == "chat"
    }
    assert all(job.load.dialect == "irc" for job in jobs)


def test_the_grid_has_every_number_of_workers_with_every_number_of_threads() -> None:
    jobs = matrix.grid({"server.backlog": "7"}, None)
    assert len(jobs) == 2 * 3 * (4 + 3 + 4)
    assert all(job.options["server.backlog"] == "7" for job in jobs)
    shapes = {(job.options["server.workers"], job.options["server.threads"]) for job in jobs}
    assert len(shapes) == 12


def test_each_switch_is_measured_beside_the_defaults() -> None:
    jobs = matrix.costs({}, None)
    titles = [job.title for job in jobs if job.load_name == "direct-200x32"]
    assert titles[0] == "defaults"
    assert {"no receipts", "fast", "pinned", "no turn lock"} <= set(titles)
    assert {job.load.receipts for job in jobs if job.title == "no receipts"} == {False}


def test_a_report_says_medians_ranges_and_what_went_wrong(document: Document) -> None:
    report = markdown.report(document, ["2030-01-02-direct.svg"])
    assert "| prefork_chat | 600 (540-660) | 1.50 (1.35-1.65) |" in report
    assert "| ngIRCd (*) | 600" in report
    assert "- (*): other processes used up to 0.77 cores" in report
    assert "![direct](2030-01-02-direct.svg)" in report
    assert "![latency]" not in report
    assert "- joins, x: could not be measured: no such server\n" in report
    assert "- room-200, y: 3 lost; the first: gone" in report
    assert "- room-200, z: the generator was busy all the time" in report
    assert "| 1 | 2.00 [500] | 2.00 [500] |" in report
    assert "| codec: cut | 120 ± 4 | line |" in report
    assert "InspIRCd is not here" in report


def test_a_terminal_gets_the_same_figures(document: Document) -> None:
    summary = markdown.summary(document)
    assert "prefork_chat      600 (540-660)" in summary
    assert "1 x 2, turn lock" in summary
    assert "codec: cut: 120 ns a line" in summary


def test_a_sound_and_quiet_run_says_so(document: Document) -> None:
    sound = Document(
        date=document.date,
        machine=document.machine,
        settings={},
        versions={},
        notes=[],
        contest=document.contest[:1],
    )
    assert "All runs were sound and undisturbed." in markdown.report(sound, [])


def test_results_are_read_back_as_they_were_written(tmp_path: Path, document: Document) -> None:
    file = tmp_path / "results" / "2030-01-02.json"
    results.write(document, file)
    assert results.read(file) == document
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_same_results_give_the_same_pictures(tmp_path: Path, document: Document) -> None:
    if not plots.is_possible():
        pytest.skip("matplotlib is not installed (the extra bench)")
    first = plots.draw(document, tmp_path / "first")
    second = plots.draw(document, tmp_path / "second")
    names = ["direct", "rooms", "latency", "clients", "grid", "costs"]
    assert [path.name for path in first] == [f"first-{name}.svg" for name in names]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert b"<svg" in first[0].read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_microbenchmarks_find_a_time_for_codec_envelope_and_registry() -> None:
    if not micro.is_possible():
        pytest.skip("pyperf is not installed (the extra bench)")
    found = micro.measure(is_quick=True)
    assert {each.name.split(":")[0] for each in found} == {"codec", "envelope", "registry"}
    assert all(each.mean_ns > 0 for each in found)
