"""Decides when the C programs are compiled, and how: on demand, once per state of their sources.

They are the load generator and the router that is the practical limit of its peers. Binaries are
kept in the checkout's cache folder under a digest of sources and command line.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = Path(__file__).resolve().parent / "loadgen"
ROUTER: Final = Path(__file__).resolve().parent / "peers" / "router.c"
CACHE: Final = ROOT / ".cache" / "benchmarks"
# -O3 for the vector form of the scan in flights_arrive, which runs once per message.
FLAGS: Final = ("-O3", "-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow")


class BuildError(Exception):
    """A program could not be compiled; the text says why."""


def build_loadgen(sources: Path = SOURCES, cache: Path = CACHE) -> Path:
    """Compile what is in `sources` unless that was done before; return the binary's path.

    The compiler is $CC, or else cc. Safe to call from several processes at once. Raises BuildError.
    """
    return _build("loadgen", sorted(sources.glob("*.[ch]")), cache)


def build_router(cache: Path = CACHE) -> Path:
    """Compile the bare router; otherwise as `build_loadgen`."""
    return _build("router", [ROUTER], cache)


def _build(name: str, sources: list[Path], cache: Path) -> Path:
    command = [os.environ.get("CC", "cc"), *FLAGS]
    binary = cache / f"{name}-{_digest(sources, command)}"
    if binary.exists():
        return binary
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        unfinished = Path(folder) / binary.name
        units = [str(path) for path in sources if path.suffix == ".c"]
        _compile([*command, "-o", str(unfinished), *units])
        unfinished.replace(binary)  # in one step: nobody runs half a binary
    return binary


def _digest(sources: list[Path], command: list[str]) -> str:
    digest = hashlib.sha256(repr([*command, platform.machine()]).encode())
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BuildError(
            f"no C compiler: {command[0]} not found (on Debian and Ubuntu: apt install gcc)"
        ) from None
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stderr}")
