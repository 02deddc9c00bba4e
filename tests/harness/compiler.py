"""C programs of the tests, compiled where there is a compiler."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from prefork_chat.board import layout

if TYPE_CHECKING:
    from pathlib import Path


def compile_c(source: Path, directory: Path, *libraries: str) -> Path:
    """Compile one file with all warnings being errors; return the program. `board.h` is found."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc, for a C program")
    program = directory / source.stem
    headers = str(layout.__file__).rpartition("/")[0]
    flags = ["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-O2", f"-I{headers}"]
    subprocess.run([compiler, *flags, "-o", program, source, *libraries], check=True)
    return program
