from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

import pytest

from prefork_chat.errors import UsageError
from prefork_chat.terminal import identity

if TYPE_CHECKING:
    from pathlib import Path


def login(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    def entry(uid: int) -> object:
        if name is None:
            raise KeyError(uid)
        return pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/sh"))

    monkeypatch.setattr(pwd, "getpwuid", entry)


def test_the_login_name_is_used_as_far_as_it_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, used in (("alice", "alice"), ("_apt", "apt"), ("DOM\\bob$", "DOMbob")):
        login(monkeypatch, name)
        assert identity.choose_name(None) == used
    for strange in (None, "日本"):
        login(monkeypatch, strange)
        assert identity.choose_name(None) == f"guest{os.getpid()}"


def test_a_given_name_must_be_one() -> None:
    assert identity.choose_name("bob") == "bob"
    with pytest.raises(UsageError, match="is no name"):
        identity.choose_name("#bob")


def test_the_password_comes_from_the_file_or_the_environment(tmp_path: Path) -> None:
    environ = {"PREFORK_CHAT_PASSWORD": "from the environment"}
    file = tmp_path / "password"
    file.write_text("from the file\nsecond line\n")
    assert identity.read_password(None, environ) == "from the environment"
    assert identity.read_password(None, {}) == ""
    assert identity.read_password(str(file), environ) == "from the file"
    file.write_bytes(b"\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        identity.read_password(str(file), environ)
    with pytest.raises(UsageError, match="No such file"):
        identity.read_password(str(tmp_path / "none"), environ)
