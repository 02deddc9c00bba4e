from __future__ import annotations

import pytest

from prefork_chat.config import Config, LimitsConfig, LogConfig, ServerConfig
from prefork_chat.options import options
from prefork_chat.supervisor.reloading import FIXED, adopt


def test_what_workers_read_is_taken_over() -> None:
    wanted = Config(
        server=ServerConfig(workers=4, login_seconds=1.0),
        limits=LimitsConfig(burst_lines=7),
        log=LogConfig(level="debug"),
    )
    assert adopt(Config(), wanted, places=8) == (wanted, ())


def test_what_was_made_before_the_first_fork_is_kept_and_named() -> None:
    running = Config(server=ServerConfig(threads=2), limits=LimitsConfig(burst_lines=1))
    wanted = Config(
        server=ServerConfig(threads=4, listen=("[::1]:1",), stop_seconds=1.0),
        limits=LimitsConfig(pair_buffer_bytes=200_000, burst_lines=2),
    )
    config, kept = adopt(running, wanted, places=8)
    assert kept == ("server.listen", "server.threads", "limits.pair_buffer_bytes")
    assert config == Config(
        server=ServerConfig(threads=2, stop_seconds=1.0), limits=LimitsConfig(burst_lines=2)
    )


def test_more_workers_than_places_need_a_restart() -> None:
    running, wanted = (Config(server=ServerConfig(workers=workers)) for workers in (2, 9))
    assert adopt(running, wanted, places=8) == (running, ("server.workers",))


@pytest.mark.parametrize("key", FIXED)
def test_every_fixed_key_is_an_option(key: str) -> None:
    assert key in [option.key_path for option in options()]
