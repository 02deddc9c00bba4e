"""Addresses as people write them: `HOST:PORT`, `[IPV6]:PORT`, `unix:PATH`.

The daemon listens at them, clients connect to them. A module of its own, and a light one, so that
commands of scripts start without loading the description of all options. Pure.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final, Literal

from prefork_chat.errors import ConfigError

DEFAULT_LISTEN: Final = "127.0.0.1:7000"
_UNIX_PATH_MAX_BYTES: Final = 107  # unix(7): sun_path has 108 bytes, the last one a NUL


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: `host` and `port`, or a Unix socket's `path`; `str` is as configured."""

    family: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.family == "unix":
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`; with port 0 the kernel chooses.

    Raises ConfigError.
    """
    if text.startswith("unix:"):
        return _parse_unix_address(text)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ConfigError(f"{text!r}: expected HOST:PORT, [IPV6]:PORT or unix:PATH")
    if re.fullmatch(r"[0-9]{1,5}", port) is None or int(port) > 65535:
        raise ConfigError(f"{text!r}: expected a port of 0 to 65535")
    return Address("tcp", host=_parse_host(host, text), port=int(port))


def _parse_unix_address(text: str) -> Address:
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise ConfigError(f"{text!r}: expected unix:PATH")
    if len(os.fsencode(path)) > _UNIX_PATH_MAX_BYTES:
        raise ConfigError(
            f"{text!r}: a Unix socket's path has at most {_UNIX_PATH_MAX_BYTES} bytes"
        )
    return Address("unix", path=path)


def _parse_host(host: str, text: str) -> str:
    if bracketed := re.fullmatch(r"\[(.*)\]", host):
        import ipaddress  # noqa: PLC0415 - slow to load, and rarely needed

        try:
            ipaddress.IPv6Address(bracketed[1])
        except ValueError:
            raise ConfigError(f"{text!r}: expected an IPv6 address between [ and ]") from None
        return bracketed[1]
    if ":" in host:
        raise ConfigError(f"{text!r}: an IPv6 address stands in brackets: [IPV6]:PORT")
    if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host) is None:
        raise ConfigError(f"{text!r}: not a host name or address: {host!r}")
    return host
