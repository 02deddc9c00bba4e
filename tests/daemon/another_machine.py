"""A client's machine that can vanish: a network namespace at the other end of a virtual cable.

Only that way does a peer stop answering without a word: as long as it shares our network, its
kernel goes on answering for it. Needs root and iproute2.
"""

from __future__ import annotations

import os
import subprocess
from typing import Final, Self


class AnotherMachine:
    """The namespace, its cable, and the addresses at both ends. `our_address` is the host's."""

    def __init__(self) -> None:
        # RFC 4193: a network whose 40 random bits nobody else on earth has drawn.
        digits = os.urandom(5).hex()
        self._network: Final = f"fd{digits[:2]}:{digits[2:6]}:{digits[6:]}:"
        self.our_address: Final = f"{self._network}:1"
        self._namespace: Final = f"prefork-chat-{os.getpid()}"
        self._here: Final = f"pfc{os.getpid()}"
        self._there: Final = f"pfd{os.getpid()}"

    @classmethod
    def plug_in(cls) -> Self:
        """Make it. Raises CalledProcessError, and leaves nothing, if this is not allowed."""
        machine = cls()
        try:
            machine._connect()
        except subprocess.CalledProcessError:
            machine.remove()
            raise
        return machine

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs the command `words` there."""
        return ("ip", "netns", "exec", self._namespace, *words)

    def unplug(self) -> None:
        """Let it vanish: from now on nothing comes back, no answer and no error.

        Its answers get lost on their way. A link that is down would not do: what cannot even be
        sent does not count as a keepalive probe.
        """
        self._in_namespace("route", "add", "blackhole", f"{self.our_address}/128")

    def remove(self) -> None:
        """Remove the cable and the namespace, as far as they exist."""
        for words in (("link", "del", self._here), ("netns", "del", self._namespace)):
            subprocess.run(["ip", *words], capture_output=True, check=False)

    def _connect(self) -> None:
        _ip("netns", "add", self._namespace)
        _ip(
            "link", "add", self._here, "type", "veth", "peer", self._there, "netns", self._namespace
        )
        _ip("addr", "add", f"{self.our_address}/64", "dev", self._here, "nodad")
        _ip("link", "set", self._here, "up")
        self._in_namespace("addr", "add", f"{self._network}:2/64", "dev", self._there, "nodad")
        self._in_namespace("link", "set", self._there, "up")

    def _in_namespace(self, *words: str) -> None:
        _ip("-n", self._namespace, *words)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)
