"""The picture of `ipc bench`: two bar charts, throughput, logarithmic, and round trip.

matplotlib is the extra `bench` and imported only here, only when a picture is asked for. The same
figures give the same file.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Final

from prefork_chat.channels.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from prefork_chat.cli.ipc_bench import Figure

_INCHES: Final = (11.0, 4.5)


def check_can_draw(path: Path) -> None:
    """Raise ChannelError if there is no matplotlib, or no place for the file: before measuring."""
    if not path.parent.is_dir():
        raise ChannelError(f"--plot {path}: there is no directory {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ChannelError(
            "--plot needs matplotlib: pip install 'prefork-chat[bench]', or pip install matplotlib"
        )


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw an SVG file. Raises ChannelError if it cannot be written."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra; see the module
    from matplotlib.figure import Figure as Picture  # noqa: PLC0415

    mechanisms = list(dict.fromkeys(figure.mechanism for figure in figures))
    sizes = sorted({figure.size_bytes for figure in figures})
    with mpl.rc_context({"svg.hashsalt": "prefork-chat"}):
        picture = Picture(figsize=_INCHES, layout="constrained")
        left, right = picture.subplots(1, 2)
        width = 0.8 / len(sizes)
        for index, size_bytes in enumerate(sizes):
            of_size = [figure for figure in figures if figure.size_bytes == size_bytes]
            places = [
                mechanisms.index(figure.mechanism) + (index - (len(sizes) - 1) / 2) * width
                for figure in of_size
            ]
            label = f"{size_bytes:,} bytes"
            left.bar(places, [f.megabytes_per_second for f in of_size], width, label=label)
            right.bar(places, [f.round_trip_us for f in of_size], width, label=label)
        for axes, title in ((left, "Throughput, MB/s"), (right, "Round trip, µs (median)")):
            axes.set_title(title)
            axes.set_xticks(range(len(mechanisms)), mechanisms, rotation=20)
            axes.grid(axis="y", alpha=0.3)
        left.set_yscale("log")
        left.legend()
        try:
            picture.savefig(path, format="svg", metadata={"Date": None})
        except OSError as error:
            raise ChannelError(f"{path}: {error.strerror}") from error
