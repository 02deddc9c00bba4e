"""Every option of the daemon: its name, type, range, default and meaning.

The structs below are the only description. `loading` reads a file by them, `options` tells of them;
whatever decides by an option has its table. A `Config` is immutable and is inherited by workers
through fork. Nothing here reads a file; the two directories are found in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from prefork_chat.addresses import DEFAULT_LISTEN
from prefork_chat.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEEPALIVE_MAX_SECONDS: Final = 32767  # tcp(7), MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL in net/tcp.h
_SNDBUF_MAX_BYTES: Final = 1 << 30  # socket(7): the kernel doubles the value, in an int
_KEEPALIVE_MAX_PROBES: Final = 127  # MAX_TCP_KEEPCNT in net/tcp.h

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "console"]
Durability: TypeAlias = Literal["exact", "fast"]
PlainText: TypeAlias = Literal["local", "anywhere"]
IngressKind: TypeAlias = Literal["fifo", "sysv-queue", "posix-queue"]


Count: TypeAlias = Annotated[int, Meta(ge=1)]
Rate: TypeAlias = Annotated[float, Meta(ge=0, le=1_000_000)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=1_000_000)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
# A title says in words what a pattern asks for.
Mode: TypeAlias = Annotated[
    str, Meta(pattern="^0?[0-7]{3}$", title="permissions in octal, such as 0640")
]
KeepaliveSeconds: TypeAlias = Annotated[int, Meta(ge=1, le=_KEEPALIVE_MAX_SECONDS)]


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the daemon listens and how many processes and threads serve."""

    listen: Annotated[
        tuple[str, ...],
        Meta(min_length=1),
        Meta(description="Addresses to listen on, any number: HOST:PORT, [IPV6]:PORT, unix:PATH."),
    ] = (DEFAULT_LISTEN,)
    runtime_dir: Annotated[
        str,
        Meta(
            description="Directory that names this daemon; has its pidfile. Empty: "
            "$RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/prefork-chat, else /tmp/prefork-chat-UID."
        ),
    ] = ""
    state_dir: Annotated[
        str,
        Meta(
            description="Directory of what outlives the daemon: accounts, history, bans. Empty: "
            "$STATE_DIRECTORY, else $XDG_STATE_HOME/prefork-chat, else ~/.local/state/prefork-chat."
        ),
    ] = ""
    workers: Annotated[int, Meta(ge=1, le=64), Meta(description="Worker processes.")] = 2
    max_workers: Annotated[
        int,
        Meta(ge=1, le=64),
        Meta(
            description="Most workers that there can be while the daemon runs (SIGTTIN adds one); "
            "never fewer than workers."
        ),
    ] = 8
    threads: Annotated[
        int,
        Meta(ge=1, le=32),
        Meta(description="Loop threads of each worker; more workers beat more threads."),
    ] = 2
    max_clients: Annotated[
        int,
        Meta(ge=1, le=1_000_000),
        Meta(description="Clients that may be joined at once, all workers together."),
    ] = 10_000
    durability: Annotated[
        Durability,
        Meta(
            description="What a worker that dies owes its clients. Their connections live on "
            "either way; exact: no line is lost or doubled; fast: faster, and what was in flight "
            "may be lost."
        ),
    ] = "exact"
    connections_per_process: Annotated[
        int,
        Meta(ge=0),
        Meta(description="A worker that has accepted so many is replaced by a new one; 0: never."),
    ] = 0
    connections_jitter: Annotated[
        Share,
        Meta(
            description="Share of connections_per_process by which workers differ at random, "
            "lest all be replaced together."
        ),
    ] = 0.1
    turn_lock: Annotated[
        bool,
        Meta(description="One thread of a worker works at a time, for all of its loops; faster."),
    ] = True
    loop_clients: Annotated[
        int,
        Meta(ge=0),
        Meta(
            description="A worker's next loop gets clients when those before have so many: who is "
            "in the same loop is cheaper to talk to; 0: all alike."
        ),
    ] = 1024
    pin_cpu: Annotated[
        bool, Meta(description="Bind each worker to one CPU; helps with four threads and more.")
    ] = False
    backlog: Annotated[
        int,
        Meta(ge=1, le=65535),
        Meta(description="Connections that wait in each listener until a worker accepts them."),
    ] = 1024
    fd_store_max: Annotated[
        int,
        Meta(ge=0, le=100_000),
        Meta(
            description="Under systemd: descriptors that it holds (the clients', and about 100), "
            "so that they outlive a supervisor that is killed; 0: none."
        ),
    ] = 2000
    login_seconds: Annotated[
        Seconds, Meta(description="A client that has not JOINed for so long is closed.")
    ] = 60.0
    stop_seconds: Annotated[
        float, Meta(ge=0, le=3600), Meta(description="Time for workers to end in order at a stop.")
    ] = 5.0
    drain_seconds: Annotated[
        float,
        Meta(ge=0, le=1_000_000),
        Meta(description="Time that a drain (SIGQUIT) gives clients to leave by themselves."),
    ] = 60.0
    watchdog_seconds: Annotated[
        float,
        Meta(ge=0.5, le=3600),
        Meta(description="A worker without a heartbeat for so long is killed."),
    ] = 10.0
    unix_socket_mode: Annotated[Mode, Meta(description="Permissions of Unix sockets, octal.")] = (
        "0666"
    )

    @property
    def worker_places(self) -> int:
        """For how many workers the daemon makes room when it starts."""
        return max(self.max_workers, self.workers)


class LimitsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of every queue, and of what one client may ask for."""

    client_pending_bytes: Annotated[
        int,
        Meta(ge=4096),
        Meta(description="What may wait for one slow reader; beyond it messages to him are BUSY."),
    ] = 262_144
    pair_buffer_bytes: Annotated[
        int,
        Meta(ge=131_072, le=_SNDBUF_MAX_BYTES),
        Meta(description="Socket buffer asked for each socketpair between workers and loops."),
    ] = 4_194_304
    outbox_bytes: Annotated[
        int,
        Meta(ge=65_536),
        Meta(description="What a loop holds back for a socketpair that is full; beyond it BUSY."),
    ] = 1_048_576
    lines_per_second: Annotated[
        Rate, Meta(description="Rate that one client is held to, by delaying him; 0: no limit.")
    ] = 0.0
    burst_lines: Annotated[
        Count, Meta(description="Lines that one client may send before lines_per_second counts.")
    ] = 200
    max_rooms: Annotated[
        int,
        Meta(ge=0, le=65_536),
        Meta(description="Rooms that may have members at once; 0: no rooms."),
    ] = 1024
    rooms_per_client: Annotated[
        int,
        Meta(ge=1, le=16),
        Meta(description="Rooms that one client may be in at once."),
    ] = 16


class HistoryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is remembered of what accounts say to each other and in rooms, and for how long."""

    enabled: Annotated[
        bool,
        Meta(
            description="Keep the messages of accounts and rooms, and those for accounts that are "
            "away until they come."
        ),
    ] = True
    retention_days: Annotated[
        float,
        Meta(ge=0, le=1_000_000),
        Meta(description="Messages are forgotten after so many days; 0: never for their age."),
    ] = 0.0
    max_bytes: Annotated[
        int,
        Meta(ge=0),
        Meta(
            description="The oldest messages are forgotten when the database holds more than this; "
            "0: as much as the disk takes."
        ),
    ] = 4_294_967_296


class RespawnConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when workers die young."""

    quick_death_seconds: Annotated[
        Seconds, Meta(description="A worker that dies within so long after its start has crashed.")
    ] = 1.0
    backoff_min_seconds: Annotated[
        Seconds, Meta(description="Wait before the respawn after one crash; each more doubles it.")
    ] = 0.1
    backoff_max_seconds: Annotated[Seconds, Meta(description="Longest wait before a respawn.")] = (
        5.0
    )
    max_crashes: Annotated[
        Count, Meta(description="Crashes in a row after which the daemon gives up and exits.")
    ] = 10


class TcpConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How peers that vanished without a word are found."""

    keepalive_idle_seconds: Annotated[
        KeepaliveSeconds, Meta(description="Silence before the first keepalive probe.")
    ] = 60
    keepalive_interval_seconds: Annotated[
        KeepaliveSeconds, Meta(description="Time between keepalive probes.")
    ] = 15
    keepalive_probes: Annotated[
        int,
        Meta(ge=1, le=_KEEPALIVE_MAX_PROBES),
        Meta(description="Probes without an answer after which a client is gone."),
    ] = 4


class AccountsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names that belong to somebody, who has a password or is a user of this machine."""

    enabled: Annotated[
        bool, Meta(description="Accounts are kept. Without them anybody may JOIN under any name.")
    ] = True
    plain_text: Annotated[
        PlainText,
        Meta(
            description="From where passwords are taken that others might read on the way; local: "
            "loopback and Unix sockets only."
        ),
    ] = "local"
    min_password_length: Annotated[
        int, Meta(ge=1, le=128), Meta(description="Letters of the shortest password.")
    ] = 8


class OperatorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator's console shows."""

    see_messages: Annotated[
        bool,
        Meta(
            description="The console shows what people write to each other, and the greeting tells "
            "them so; otherwise only who writes to whom."
        ),
    ] = False


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is logged, where and how."""

    file: Annotated[
        str,
        Meta(
            description="File that lines are appended to; a new one once it has been moved. "
            "Empty: stderr."
        ),
    ] = ""
    level: Annotated[LogLevel, Meta(description="Least important level that is logged.")] = "info"
    format: Annotated[
        LogFormat,
        Meta(description="json: objects; console: for people; auto: console on a terminal only."),
    ] = "auto"


class BoardConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What programs of this machine are shown in System V shared memory (`prefork-chat board`)."""

    enabled: Annotated[bool, Meta(description="Keep the board.")] = True
    mode: Annotated[Mode, Meta(description="Who may read it: permissions, octal.")] = "0644"


class MetricsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures for Prometheus."""

    listen: Annotated[
        str,
        Meta(description="Where GET /metrics is answered: HOST:PORT, unix:PATH. Empty: nowhere."),
    ] = ""


class IngressConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way for programs of this machine to speak into the chat."""

    kind: Annotated[
        IngressKind, Meta(description="What programs write to: a FIFO or a message queue.")
    ]
    path: Annotated[
        str,
        Meta(
            pattern="^/.+",
            title="a path or name that begins with /",
            description="fifo: where it is made; sysv-queue: the file of its key, "
            "ftok(path, 'P'); posix-queue: its name, such as /chat-in.",
        ),
    ]
    name: Annotated[
        str,
        Meta(
            pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$",
            title="a name: 1-32 of A-Z a-z 0-9 _ . -, a letter or digit first",
            description="Who speaks: the name under which its messages appear.",
        ),
    ]
    to: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Users and #rooms to whom it may speak; a * at the end stands for any "
            "end: #* are all rooms, * is everybody.",
        ),
    ] = ("*",)
    mode: Annotated[Mode, Meta(description="Its permissions, octal.")] = "0620"
    owner: Annotated[str, Meta(description="User that it belongs to. Empty: the daemon's.")] = ""
    group: Annotated[str, Meta(description="Group that it belongs to. Empty: the daemon's.")] = ""
    lines_per_second: Annotated[
        Rate, Meta(description="Rate at which it is read; 0: no limit.")
    ] = 0.0
    burst_lines: Annotated[
        Count, Meta(description="Lines that are read before lines_per_second counts.")
    ] = 50


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration: one struct for each table of the file, any number of `ingress`."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    history: HistoryConfig = HistoryConfig()
    respawn: RespawnConfig = RespawnConfig()
    tcp: TcpConfig = TcpConfig()
    accounts: AccountsConfig = AccountsConfig()
    operator: OperatorConfig = OperatorConfig()
    board: BoardConfig = BoardConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
    ingress: tuple[IngressConfig, ...] = ()


def resolve_runtime_dir(config: Config, environ: Mapping[str, str] | None = None) -> Path:
    """Return the absolute directory that names this daemon; it need not exist yet.

    The configured one, else systemd's $RUNTIME_DIRECTORY (the first, if it lists several), else
    $XDG_RUNTIME_DIR/prefork-chat, else /tmp/prefork-chat-UID.
    """
    env = os.environ if environ is None else environ
    if config.server.runtime_dir:
        return Path(config.server.runtime_dir).absolute()
    if from_systemd := env.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(from_systemd).absolute()
    if from_session := env.get("XDG_RUNTIME_DIR"):
        return Path(from_session, "prefork-chat").absolute()
    return Path(f"/tmp/prefork-chat-{os.getuid()}")


def resolve_state_dir(config: Config, environ: Mapping[str, str] | None = None) -> Path:
    """Return the absolute directory of what outlives the daemon; it need not exist yet.

    The configured one, else systemd's $STATE_DIRECTORY (the first, if it lists several), else
    $XDG_STATE_HOME/prefork-chat, else ~/.local/state/prefork-chat. Raises ConfigError if there is
    no home directory either.
    """
    env = os.environ if environ is None else environ
    if config.server.state_dir:
        return Path(config.server.state_dir).absolute()
    if from_systemd := env.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(from_systemd).absolute()
    if from_session := env.get("XDG_STATE_HOME"):
        return Path(from_session, "prefork-chat").absolute()
    try:
        home = Path.home()
    except RuntimeError:
        raise ConfigError("server.state_dir: say where, there is no home directory") from None
    return home / ".local" / "state" / "prefork-chat"
