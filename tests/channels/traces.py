"""What a channel leaves, seen from outside: objects by key and name, files of its ledger."""

from __future__ import annotations

import os
from pathlib import Path

from prefork_chat.channels.errors import NoServer
from prefork_chat.channels.key import Key
from prefork_chat.channels.posix import PosixQueue
from prefork_chat.channels.shared_memory import sibling


def traces(key_path: Path, ledger: Path) -> set[str]:
    """Name all objects that channels of this key can have, and do, and the ledger's files."""
    key = Key.of(key_path)
    numbers = {key.number, sibling(key.number, ord("F")), sibling(key.number, ord("R"))}
    found = set(os.listdir(ledger)) if ledger.is_dir() else set()
    for kind in ("msg", "shm", "sem"):
        for line in Path(f"/proc/sysvipc/{kind}").read_text(encoding="ascii").splitlines()[1:]:
            if int(line.split()[0]) in numbers:
                found.add(f"{kind} {line.split()[0]}")
    # Asked for by name: /dev/mqueue is not mounted everywhere.
    name = f"/prefork-chat-{os.geteuid()}-{key.name}"
    try:
        PosixQueue.open(name).close()
        found.add(name)
    except NoServer:
        pass
    return found
