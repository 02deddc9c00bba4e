"""Which configuration the daemon runs by: the newest one, and the last one that has proved right.

A new configuration is taken over by the workers that are forked from then on. It has proved right
when all workers have it. If its first workers crash, the last one that has proved right comes back.
When that is so is `operations`' to say; what of a new one has to wait for a restart is decided by
`reloading`. Called by the supervisor's only thread. A configuration that is wrong, or whose log or
local objects cannot be made, changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prefork_chat import log
from prefork_chat.errors import ConfigError, StartError
from prefork_chat.log import (
    CONFIG_KEPT,
    CONFIG_LOADED,
    CONFIG_REJECTED,
    CONFIG_RESTORED,
    get_logger,
)
from prefork_chat.supervisor.reloading import adopt

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_chat.config import Config
    from prefork_chat.supervisor.local import LocalObjects


class Configuration:
    """The configuration in force. Owner: the supervisor's thread.

    `current` is what children that are forked now start from.
    """

    def __init__(self, config: Config, load: Callable[[], Config], local: LocalObjects) -> None:
        """Begin with one that is right; `load` reads it anew, `local` is made by it."""
        self.current = config
        self._proven = config
        self._load: Final = load
        self._local: Final = local
        self._log: Final = get_logger()

    @property
    def is_proven(self) -> bool:
        """True when all workers have had the current one."""
        return self.current == self._proven

    def renew(self, places: int) -> tuple[str, ...]:
        """Load it anew, for a daemon with `places` for workers; return the keys left as they were.

        Raises ConfigError, and then all is as it was.
        """
        try:
            config, kept = adopt(self.current, self._load(), places)
            log.configure(config.log)
            self._put_up_local(config)
        except (ConfigError, StartError) as error:
            self._log.error(CONFIG_REJECTED, reason=str(error))
            raise ConfigError(str(error)) from error
        self._log.info(CONFIG_LOADED)
        if kept:
            self._log.warning(CONFIG_KEPT, keys=kept, meaning="these need a restart")
        self.current = config
        return kept

    def has_proved_right(self) -> None:
        """Note that all workers have the current one."""
        self._proven = self.current

    def restore(self) -> None:
        """Bring back the last one that has proved right."""
        self.current = self._proven
        try:
            log.configure(self.current.log)
            self._local.put_up(self.current)
        except StartError as error:
            self._log.warning(CONFIG_REJECTED, reason=str(error))
        self._log.warning(CONFIG_RESTORED, meaning="the last one that all workers had")

    def _put_up_local(self, config: Config) -> None:
        """Make what other programs are to find of us, or leave it as it was; raises StartError."""
        try:
            self._local.put_up(config)
        except StartError:
            self._local.put_up(self.current)
            raise
