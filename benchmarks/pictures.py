"""`python -m benchmarks.pictures [DIRECTORY]`: makes the pictures of the README.

A daemon is started, people talk in terminals of a tmux server of our own, and what is to be seen
there is drawn. Times of day are replaced by a morning's, so that pictures of the client made twice
are the same, and directories by those of a service: nothing of the machine is in them but what
`top` says of processes. Needs tmux, nc and the extra `client`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.build import ROOT
from benchmarks.daemon import serve
from benchmarks.screens import draw

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY: Final = ROOT / "benchmarks" / "screenshots"
_PATIENCE_SECONDS: Final = 30.0
_MORNING: Final = "09:41"
_RUNTIME_DIRECTORY: Final = "/run/prefork-chat"
_TALKER: Final = """
{{ echo JOIN {name}; echo "ENTR {room}"
   for i in $(seq 600); do sleep {pause}; echo "CHAT {room} tick $i"; done; }} | nc {host} {port}
"""
_TALKERS: Final = (
    ("cron", "#ops", 0.2),
    ("build", "#dev", 0.05),
    ("alice", "#dev", 0.1),
    ("bob", "#dev", 0.3),
)


class Terminals:
    """A tmux server with its socket in `directory`; `open`, `say` and `see` name a terminal."""

    def __init__(self, directory: str) -> None:
        self._socket = f"{directory}/tmux"
        self._columns: dict[str, int] = {}

    def open(self, name: str, command: list[str], columns: int, lines: int) -> None:
        """Run a command in a new terminal of that size."""
        self._columns[name] = columns
        line = shlex.join(["env", "TZ=UTC", *command])
        size = ("-x", str(columns), "-y", str(lines))
        self._run("-u", "-f", "/dev/null", "new-session", "-d", "-s", name, *size, line)

    def say(self, name: str, *lines: str) -> None:
        """Type and enter lines, each when the one before has been answered."""
        for line in lines:
            self._run("send-keys", "-t", name, "-l", "--", line)
            self._run("send-keys", "-t", name, "Enter")
            time.sleep(0.4)

    def press(self, name: str, *keys: str) -> None:
        """Press keys, by the names that tmux has for them."""
        self._run("send-keys", "-t", name, *keys)

    def wait_for(self, name: str, text: str) -> None:
        """Wait until this is to be seen."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while text not in (seen := self._run("capture-pane", "-p", "-t", name)):
            if time.monotonic() > deadline:
                raise SystemExit(f"{text!r} did not come; to be seen:\n{seen}")
            time.sleep(0.05)

    def picture(self, name: str, title: str, replaced: str = "") -> str:
        """Return what is to be seen, as SVG, with the runtime directory `replaced`."""
        seen = self._run("capture-pane", "-p", "-e", "-N", "-t", name)
        if replaced:
            seen = seen.replace(replaced, _RUNTIME_DIRECTORY.ljust(len(replaced)))
        lines = re.sub(r"(?<!\d)\d\d:\d\d(?!\d)", _MORNING, seen).removesuffix("\n").split("\n")
        return draw(lines, self._columns[name], title)

    def end(self) -> None:
        """End all terminals."""
        self._run("kill-server")

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def terminals() -> Iterator[Terminals]:
    """Give a tmux server, and end it."""
    with tempfile.TemporaryDirectory() as directory:
        ours = Terminals(directory)
        try:
            yield ours
        finally:
            ours.end()


def chat_pictures() -> dict[str, str]:
    """Return the pictures of the client by name: two people, one on the full screen, one plain."""
    with serve({}, "tcp", None) as server, terminals() as screens:
        chat = [sys.executable, "-m", "prefork_chat", "chat", server.address, "--room", "#dev"]
        screens.open("carol", [*chat, "--name", "carol"], 80, 24)
        screens.wait_for("carol", "you are carol")
        screens.open("alice", [*chat, "--name", "alice"], 78, 12)
        screens.wait_for("alice", "you are alice")
        screens.open("bob", [*chat, "--name", "bob", "--plain"], 78, 12)
        screens.wait_for("bob", "you are bob")
        screens.say("bob", "morning! who broke the build?")
        screens.say("carol", "not me. alice, was that your rebase at midnight?")
        screens.say("alice", "it was, and it is fixed. kill -9 a worker: nobody will notice")
        screens.say("bob", "you did? there are two new pids, and I am still connected")
        screens.say("carol", "完璧です")
        screens.say("alice", "/msg dave are you up yet?")
        screens.say("alice", "/msg #dev")
        screens.say("carol", "/msg alice lunch at twelve?")
        screens.say("bob", "/msg alice and the secret one")
        screens.wait_for("alice", "unread")
        screens.press("alice", "off for a coffee, back in ten")
        screens.wait_for("alice", "back in ten")
        return {
            "chat.svg": screens.picture("alice", "prefork-chat chat --room '#dev'"),
            "plain.svg": screens.picture("bob", "prefork-chat chat --plain --room '#dev'"),
        }


def top_pictures() -> dict[str, str]:
    """Return the picture of `top` by name: programs talk in rooms, a worker has been killed."""
    with serve({"server.workers": "3"}, "tcp", None) as server, terminals() as screens:
        assert server.log is not None
        host, _, port = server.address.rpartition(":")
        for name, room, pause in _TALKERS:
            line = _TALKER.format(name=name, room=room, pause=pause, host=host, port=port)
            screens.open(name, ["sh", "-c", line], 80, 24)
            screens.wait_for(name, "OK CHAT")
        log = server.log.read_text(encoding="utf-8")
        killed = re.findall(r'"worker.spawned", "p_id": 1, .*"pid": (\d+)', log)
        os.kill(int(killed[-1]), signal.SIGKILL)
        directory = str(server.log.parent / "run")
        top = [sys.executable, "-m", "prefork_chat", "top", "--runtime-dir", directory]
        screens.open("top", top, 86, 24)
        screens.wait_for("top", "SIGKILL")
        time.sleep(3.0)  # for rates, which are those of the last second
        return {"top.svg": screens.picture("top", "prefork-chat top", replaced=directory)}


def main() -> int:
    """Make all pictures; return the exit code."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else DIRECTORY
    directory.mkdir(exist_ok=True)
    for name, picture in (chat_pictures() | top_pictures()).items():
        (directory / name).write_text(picture, encoding="utf-8")
        print(directory / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
