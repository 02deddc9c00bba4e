"""Where other people's programs come from: the machine, or Debian's packages in the cache folder.

`fetch` downloads the packages, and those that they need and the machine has not, and unpacks them
into the checkout's cache folder. Nothing is installed, no script of a package runs, so no service
is made or started, and it needs no privileges. Only done when the user asks for it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.build import CACHE

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES: Final = ("ngircd", "inspircd")
FOLDER: Final = CACHE / "debian"
_PLACES: Final = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin")


class FetchError(Exception):
    """The packages could not be had; the text says why."""


def find(program: str, folder: Path = FOLDER) -> Path | None:
    """Return where a program is, in the machine or among what was fetched; None: nowhere."""
    found = shutil.which(program, path=":".join(_PLACES))
    if found:
        return Path(found)
    fetched = (folder / "root" / "usr" / place / program for place in ("sbin", "bin"))
    return next((path for path in fetched if path.exists()), None)


def environment(folder: Path = FOLDER) -> dict[str, str]:
    """Return the variables with which a fetched program finds its libraries."""
    return {"LD_LIBRARY_PATH": ":".join(map(str, _libraries(folder)))}


def modules(program: Path) -> Path:
    """Return where InspIRCd's modules are, beside the program that `find` returned."""
    return program.parent.parent / "lib" / "inspircd" / "modules"


def fetch(folder: Path = FOLDER, packages: Sequence[str] = PACKAGES) -> None:
    """Download packages, and what they need and is missing, and unpack. Raises FetchError."""
    if shutil.which("apt-get") is None:
        raise FetchError(
            f"{' and '.join(packages)} can only be fetched by apt-get, which is not here"
        )
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    settings = {
        "Dir::Cache::archives": archives,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "1",  # apt's locks are root's, and nothing of the machine is changed
        "APT::Sandbox::User": "",  # apt's own user may not write into the checkout
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    words = ["install", "--download-only", "--yes", "--no-install-recommends"]
    _run(["apt-get", *options, *words, *packages])
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(folder / "root")])


def _libraries(folder: Path) -> list[Path]:
    root = folder / "root"
    return sorted([*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = "(an old list of packages? apt-get update)"
        raise FetchError(f"{' '.join(command)}: {done.stderr.strip()} {hint}")
