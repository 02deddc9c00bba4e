"""Whom the operator does not want to hear: names and addresses, kept over restarts in one file.

Decides what a ban and a mute look like, for whom they hold, and how they are kept. The operator's
console is the only writer (`change`); acceptors and loops look at the file whenever somebody comes
or joins (`Bans`), which costs a stat(2) as long as it is the same: 1.5 µs. It is replaced as a
whole, by rename(2), so whoever reads it finds it old or new, and a console that is killed leaves it
as it was. Two consoles take turns (flock(2) of the directory).

    state_dir/bans.jsonl    a line for each: {"kind":"ban","target":"mallory","until":1795...,...}

A *target* is a folded name, an address or a network: `mallory`, `192.0.2.7`, `2001:db8::/32`. One
that looks like an address holds for a name that looks like that, too. Times are of the wall clock:
they are for people, and mean the same after a restart. A file that cannot be read changes nothing:
what was known holds on, and the log says so.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from prefork_chat import log
from prefork_chat.protocol.names import fold, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

FILE_NAME: Final = "bans.jsonl"
_NEW_NAME: Final = f"{FILE_NAME}.new"

Kind: TypeAlias = Literal["ban", "mute"]
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Ban(Struct, frozen=True, omit_defaults=True):
    """One line: who, since when and until when (None: for good), in seconds since 1970, and why."""

    kind: Kind
    target: str
    since: float
    until: float | None = None
    reason: str = ""

    def holds_at(self, now: float) -> bool:
        """Say whether it has not ended yet."""
        return self.until is None or now < self.until

    @property
    def terms(self) -> str:
        """What those are told whom it is about: see `terms`."""
        return terms(self.reason, self.until)


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Ban)


def terms(reason: str, until: float | None = None) -> str:
    """Return until when something holds, and why, behind what holds: ` until 18:00 …: spam`."""
    end = "" if until is None else time.strftime(" until %Y-%m-%d %H:%M UTC", time.gmtime(until))
    return f"{end}: {reason}" if reason else end


class BadTarget(ValueError):  # noqa: N818 - an outcome, not an error
    """What was given is neither a name nor an address; the message says so."""


def parse_target(text: str) -> str:
    """Return how a name, address or network is kept; raises BadTarget."""
    network = network_of(text)
    if network is not None:
        return str(network.network_address if network.num_addresses == 1 else network)
    if not is_name(text.encode(errors="replace")):
        raise BadTarget(f"{text} is neither a name nor an address")
    return text.lower()


def network_of(target: str) -> Network | None:
    """Return the address or network that a target means, None if it is a name only."""
    try:
        return ipaddress.ip_network(target, strict=False)
    except ValueError:
        return None


class Bans:
    """What holds now, as the file of a directory says. Owner: one thread; any number may look."""

    __slots__ = ("_by_target", "_is_readable", "_networks", "_path", "_seen")

    def __init__(self, state_dir: Path) -> None:
        """Look at the file in that directory, which need not be there."""
        self._path = state_dir / FILE_NAME
        self._seen: tuple[int, int, int] | None = None
        self._is_readable = True
        self._by_target: dict[tuple[Kind, str], Ban] = {}
        self._networks: list[tuple[Network, Ban]] = []

    def of_name(self, kind: Kind, key: bytes, now: float) -> Ban | None:
        """Return the ban or mute of a folded name, None if there is none at the time `now`."""
        self._refresh()
        ban = self._by_target.get((kind, key.decode("ascii", "replace")))
        return ban if ban is not None and ban.holds_at(now) else None

    def of_address(self, host: str, now: float) -> Ban | None:
        """Return the ban of an address; of several the one that holds longest."""
        self._refresh()
        if not self._networks:
            return None
        address = _address(host)
        if address is None:
            return None
        found = [ban for network, ban in self._networks if ban.holds_at(now) and address in network]
        return max(found, key=_length, default=None)

    @property
    def are_any(self) -> bool:
        """True when somebody is, or was of late, banned or mute."""
        self._refresh()
        return bool(self._by_target)

    @property
    def has_addresses(self) -> bool:
        """True when some address is banned."""
        self._refresh()
        return bool(self._networks)

    def _refresh(self) -> None:
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            self._complain(error.strerror or "")
            return
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen != self._seen:
            self._load(seen)

    def _load(self, seen: tuple[int, int, int]) -> None:
        try:
            bans = decode(self._path.read_bytes())
        except (OSError, ValueError) as error:
            self._complain(str(error))
            return
        networks = ((network_of(ban.target), ban) for ban in bans if ban.kind == "ban")
        self._by_target = {(ban.kind, ban.target): ban for ban in bans}
        self._networks = [(network, ban) for network, ban in networks if network is not None]
        self._seen = seen
        self._is_readable = True

    def _forget(self) -> None:
        self._seen = None
        self._by_target = {}
        self._networks = []

    def _complain(self, reason: str) -> None:
        """Say once that the file cannot be read."""
        if self._is_readable:
            self._is_readable = False
            log.get_logger().warning(log.BANS_UNREADABLE, file=str(self._path), reason=reason)


def decode(content: bytes) -> list[Ban]:
    """Read the content of the file; raises ValueError."""
    bans = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            bans.append(_decoder.decode(line))
        except ValueError as error:
            raise ValueError(f"{FILE_NAME}, line {number}: {error}") from error
    return bans


def load(directory_fd: int) -> list[Ban]:
    """Read the file of an open directory; raises OSError, or ValueError for what is no such file.

    None is there: nobody is banned.
    """
    try:
        fd = os.open(FILE_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as file:
        return decode(file.read())


def change(
    directory_fd: int, edit: Callable[[Sequence[Ban]], Iterable[Ban]], now: float
) -> list[Ban]:
    """Replace the file of an open directory by what `edit` makes of those that hold at `now`.

    Returns all that it has then; it is on the disk by then. The file is the directory's owner's,
    whoever we are. Raises OSError or ValueError, and has changed nothing.
    """
    with ExitStack() as undo:
        # Opened anew: locks of duplicates of one descriptor do not exclude each other.
        directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_fd)
        undo.callback(os.close, directory)
        fcntl.flock(directory, fcntl.LOCK_EX)
        bans = list(edit([ban for ban in load(directory) if ban.holds_at(now)]))
        fd = os.open(
            _NEW_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory
        )
        with open(fd, "wb") as file:
            owner = os.fstat(directory)
            if owner.st_uid != os.fstat(fd).st_uid:
                os.fchown(fd, owner.st_uid, owner.st_gid)
            file.write(b"".join(_encoder.encode(ban) + b"\n" for ban in bans))
            file.flush()
            os.fsync(fd)
        os.replace(_NEW_NAME, FILE_NAME, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
        return bans


def with_ban(bans: Iterable[Ban], ban: Ban) -> list[Ban]:
    """Return the list with that one, in place of what there was for its target."""
    return [*without(bans, ban.kind, ban.target), ban]


def without(bans: Iterable[Ban], kind: Kind, target: str) -> list[Ban]:
    """Return the list without what there is of that kind for that target."""
    return [ban for ban in bans if (ban.kind, ban.target) != (kind, target)]


def applies_to(target: str, key: bytes, host: str) -> bool:
    """Say whether a target means somebody with that folded name, or at that address."""
    if key and fold(target.encode()) == key:
        return True
    network = network_of(target)
    address = _address(host)
    return network is not None and address is not None and address in network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read a peer's address; one of IPv4 in IPv6's clothes is what it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _length(ban: Ban) -> float:
    return float("inf") if ban.until is None else ban.until
