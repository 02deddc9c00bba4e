"""How figures are written for people, short and of even width. Pure; used by commands."""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "-"
_UNITS: Final = ("", "K", "M", "G", "T")


def duration(seconds: float) -> str:
    """Write a time in its two largest units: `42s`, `3m07s`, `2h15m`, `12d06h`."""
    whole = int(seconds)
    for unit, length, part, part_length in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // part_length:02}{part}"
    return f"{whole}s"


def size(count: int | None) -> str:
    """Write a number of bytes in three or four characters: `0`, `812`, `4.1K`, `37M`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.1f}{unit}" if unit and value < 10 else f"{value:.0f}{unit}"


def share(value: float | None) -> str:
    """Write a share as a percentage."""
    return UNKNOWN if value is None else f"{value * 100:.1f}%"


def rate(value: float) -> str:
    """Write a rate: `0`, `7.5`, `1,048,576`."""
    return f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}"
