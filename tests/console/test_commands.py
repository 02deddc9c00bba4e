"""What the operator's lines mean."""

from __future__ import annotations

import pytest

from prefork_chat.console import commands
from prefork_chat.console.commands import (
    Allow,
    Asked,
    Broadcast,
    Forbid,
    Help,
    KickOne,
    ListBans,
    ListClients,
    ListRooms,
    Misused,
    Quit,
    TellOne,
    parse,
)


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", None),
        ("   ", None),
        ("hello all ", Broadcast("hello all")),
        ("//etc is a directory", Broadcast("/etc is a directory")),
        ("bell \a!", Broadcast("bell ?!")),
        ("/to Bob  how are you?", TellOne("bob", "how are you?")),
        ("/TO bob hi", TellOne("bob", "hi")),
        ("/kick bob", KickOne("bob", "")),
        ("/kick bob too loud", KickOne("bob", "too loud")),
        ("/mute bob", Forbid("mute", "bob", None, "")),
        ("/mute bob 10", Forbid("mute", "bob", 600, "")),
        ("/mute bob 10s be quiet", Forbid("mute", "bob", 10, "be quiet")),
        ("/mute bob be quiet", Forbid("mute", "bob", None, "be quiet")),
        ("/unmute Bob", Allow("mute", "bob")),
        ("/ban Bob", Forbid("ban", "bob", None, "")),
        ("/ban bob 2h", Forbid("ban", "bob", 7200, "")),
        ("/ban bob 1w spam, again", Forbid("ban", "bob", 604_800, "spam, again")),
        ("/ban bob 3 times is enough", Forbid("ban", "bob", None, "3 times is enough")),
        ("/ban 192.0.2.9/24 7d", Forbid("ban", "192.0.2.0/24", 604_800, "")),
        ("/ban ::1 90m", Forbid("ban", "::1", 5400, "")),
        ("/ban bob 999999999w", Forbid("ban", "bob", 100 * 365 * 86_400, "")),
        ("/unban 192.0.2.9", Allow("ban", "192.0.2.9")),
        ("/bans", ListBans()),
        ("/who", ListClients()),
        ("/rooms", ListRooms()),
        ("/help ", Help()),
        ("/quit", Quit()),
    ],
)
def test_a_line_asks_for(line: str, asked: Asked | None) -> None:
    assert parse(line) == asked


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/", "/ is no command: /help lists them"),
        ("/dance now", "/dance is no command: /help lists them"),
        ("/to", "a name and a text are needed: /to NAME TEXT"),
        ("/to bob", "a name and a text are needed: /to NAME TEXT"),
        ("/to #dev hi", "#dev is no name: /to NAME TEXT"),
        ("/kick", "a name is missing: /kick NAME [REASON]"),
        ("/mute", "a name is missing: /mute NAME [MINUTES] [REASON]"),
        ("/ban", "a name or an address is missing: /ban NAME|ADDRESS [DURATION] [REASON]"),
        ("/unban #x", "#x is neither a name nor an address: /unban NAME|ADDRESS"),
        ("/who else", "it takes no arguments: /who"),
        ("x" * 901, "901 bytes are too long for a line, 900 are the most"),
        ("/to bob " + "ä" * 451, "902 bytes are too long for a line, 900 are the most"),
    ],
)
def test_wrong_usage_is_told(line: str, complaint: str) -> None:
    with pytest.raises(Misused) as misused:
        parse(line)
    assert str(misused.value) == complaint


def test_help_shows_every_command_in_columns() -> None:
    lines = commands.help_lines()
    assert [line.split()[0] for line in lines[1:-1]] == list(commands.COMMANDS)
    assert max(map(len, lines)) <= 100
