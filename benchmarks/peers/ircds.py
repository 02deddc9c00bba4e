"""The configurations of ngIRCd and InspIRCd: everything off that slows clients down on purpose.

No flood control, no throttling, no limit of connections or of an address, no look-up of host names
or of who owns a connection, long names. Output queues are larger than any load here fills. All
else is as the packages have it. Pure text, but for the start.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import debian
from benchmarks.peers.programs import free_port, serve_on_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.daemon import Server


def ngircd_config(port: int) -> str:
    """Return ngircd.conf(5); it serves as the user who started it, which root must say."""
    user = f"ServerUID = {os.getuid()}\nServerGID = {os.getgid()}\n"
    return f"""[Global]
Name = bench.invalid
Info = benchmark
MotdPhrase = benchmark
Listen = 127.0.0.1
Ports = {port}
{user}[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxNickLength = 31
MaxPenaltyTime = 0
PingTimeout = 3600
[Options]
DNS = no
Ident = no
PAM = no
"""


def inspircd_config(port: int, folder: Path, modules: Path) -> str:
    """Return inspircd.conf; all that it writes is in `folder`."""
    return f"""<config format="xml">
<path configdir="{folder}" datadir="{folder}" logdir="{folder}" runtimedir="{folder}"
      moduledir="{modules}">
<server name="bench.invalid" description="benchmark" id="0BM" network="bench">
<admin name="bench" nick="bench" email="bench@bench.invalid">
<bind address="127.0.0.1" port="{port}" type="clients">
<connect name="all" allow="*" resolvehostnames="no" useident="no" timeout="60" pingfreq="3600"
         hardsendq="64M" softsendq="16M" recvq="16M" threshold="1000000000"
         commandrate="1000000000" fakelag="no" localmax="100000" globalmax="100000"
         limit="100000" maxconnwarn="no" maxchans="20" modes="">
<limits maxnick="31" maxchan="64">
<performance netbuffersize="65534" somaxconn="4096" softlimit="100000" quietbursts="yes">
<log method="file" type="*" level="default" target="inspircd.log">
"""


def version(program: Path) -> str:
    """Return what a program says that it is, in a line."""
    done = subprocess.run(
        [program, "--version"],
        env={**os.environ, **debian.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout.strip().splitlines() or [program.name])[0]


@contextlib.contextmanager
def serve_ngircd(program: Path, cpus: frozenset[int] | None) -> Iterator[Server]:
    """Run ngIRCd for the body of the `with` statement. Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as name:
        folder, port = Path(name), free_port()
        (folder / "ngircd.conf").write_text(ngircd_config(port), encoding="utf-8")
        command = [str(program), "--nodaemon", "--config", f"{folder}/ngircd.conf"]
        with serve_on_port(command, folder, cpus, port, debian.environment()) as server:
            yield server


@contextlib.contextmanager
def serve_inspircd(program: Path, cpus: frozenset[int] | None) -> Iterator[Server]:
    """Run InspIRCd for the body of the `with` statement. Raises PeerError."""
    with tempfile.TemporaryDirectory(prefix="prefork-chat-benchmark-") as name:
        folder, port = Path(name), free_port()
        config = inspircd_config(port, folder, debian.modules(program))
        (folder / "inspircd.conf").write_text(config, encoding="utf-8")
        as_root = ["--runasroot"] if os.getuid() == 0 else []
        config_option = ["--config", f"{folder}/inspircd.conf"]
        command = [str(program), "--nofork", "--nopid", *as_root, *config_option]
        with serve_on_port(command, folder, cpus, port, debian.environment()) as server:
            yield server
