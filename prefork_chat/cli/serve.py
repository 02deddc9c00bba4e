"""`prefork-chat serve`: loads the configuration, sets up logging, and becomes the supervisor.

The one place where the supervisor and the code of its children meet: the supervisor is handed
`run_worker`, `furnish` and the attendants' duties and imports nothing of what they know. Runs in
the main thread of the process that will be the supervisor; nothing has been forked and no thread
been started before `Supervisor.run`.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prefork_chat import __version__, loading, log
from prefork_chat.addresses import parse_address
from prefork_chat.cli import options
from prefork_chat.config import resolve_state_dir

if TYPE_CHECKING:
    import argparse

    from prefork_chat.addresses import Address
    from prefork_chat.config import Config
    from prefork_chat.registry.registry import Registry


STDERR: Final = 2


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, with a flag for each option."""
    parser = subcommands.add_parser(
        "serve",
        usage="prefork-chat serve [--config FILE] [OPTION ...]",
        help="run the daemon in the foreground",
        description="Run the daemon in the foreground; Ctrl-C ends it. SIGHUP reloads FILE. "
        "What is given here wins over the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="configuration file, TOML")
    options.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop; return the exit code. Raises PreforkChatError."""
    open_standard_files()
    load = partial(loading.load, arguments.config, options.overrides(arguments))
    settings = load()
    resolve_state_dir(settings)  # before it is needed by processes that cannot ask for it
    log.configure(settings.log)
    # Here, so that the other subcommands start without loading the server.
    from prefork_chat.historian.historian import run_historian  # noqa: PLC0415
    from prefork_chat.porter.porter import is_wanted, run_porter  # noqa: PLC0415
    from prefork_chat.supervisor.attendants import Duty  # noqa: PLC0415
    from prefork_chat.supervisor.supervisor import Supervisor  # noqa: PLC0415
    from prefork_chat.supervisor.upgrading import is_handover  # noqa: PLC0415
    from prefork_chat.worker.worker import run_worker  # noqa: PLC0415

    duties = {
        "historian": Duty(run_historian, lambda settings: settings.history.enabled),
        "porter": Duty(run_porter, is_wanted),
    }
    is_typed = "LISTEN_FDS" not in os.environ and not is_handover(os.environ)

    def begin(settings: Config, registry: Registry) -> None:
        furnish(settings, registry)
        if is_typed:  # and is listened to from now on
            print(welcome(settings), flush=True)

    return Supervisor(settings, run_worker, load, begin, duties).run()


def furnish(settings: Config, registry: Registry) -> None:
    """Tell the registry which names are accounts; never raises.

    If that cannot be known, guests may take any name until it can: the chat goes on. A worker that
    can read the accounts again tells the registry, too.
    """
    from prefork_chat.accounts.accounts import announce_all  # noqa: PLC0415
    from prefork_chat.accounts.store import StoreFailed  # noqa: PLC0415

    if not settings.accounts.enabled:
        return
    state_dir = resolve_state_dir(settings)
    try:
        announce_all(state_dir, registry.registered.add)
    except StoreFailed as failure:
        meaning = "guests may take the names of accounts until the file can be read"
        log.get_logger().error(
            log.ACCOUNTS_UNKNOWN, reason=str(failure), path=str(state_dir), meaning=meaning
        )


def open_standard_files() -> None:
    """Make sure that stdin, stdout and stderr are open, be it on /dev/null.

    Who starts a daemon may have closed them; a client's socket would then become "stderr".
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(fd)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def welcome(settings: Config) -> str:
    """Return what a person wants to know who has just started the daemon: how to talk to it."""
    lines = [f"prefork-chat {__version__}; to talk, in another terminal:"]
    lines += [f"    {netcat(parse_address(text))}" for text in settings.server.listen]
    return "\n".join([*lines, "then type: JOIN your_name (and HELP); Ctrl-C here ends the daemon."])


def netcat(address: Address) -> str:
    """Return the netcat command that reaches the address from this machine."""
    if address.family == "unix":
        return f"nc -U {address.path}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"nc {host} {address.port or 'PORT (the log below tells it)'}"
