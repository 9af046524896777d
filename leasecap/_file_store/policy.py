"""What the configuration says of a pool, as it is in force."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import PoolConfig
    from leasecap._file_store.limit_in_force import LimitInForce


class Policy:
    """The limit of one pool, and what is done about those who hold a slot for too long.

    :ivar configured: the configured limit that is in force, or None.
    :ivar limit: keeps ``configured`` up to date; None leaves it as it is.
    :ivar force: whether a slot that is held for too long is given away.
    """

    def __init__(self, configured: int | None, limit: LimitInForce | None = None) -> None:
        self.configured = configured
        self.limit = limit
        self.force = False

    def configure(self, settings: PoolConfig) -> None:
        """Follow the configuration."""
        self.force = settings.reclaim == "force"
        if self.limit is not None:
            self.configured = self.limit.configure(settings.limit)

    def keep(self) -> None:
        """Inside the section: see which limit is in force, and note it for processes that start later."""
        if self.limit is not None:
            self.configured = self.limit.keep()

    @property
    def is_limited(self) -> bool:
        """Whether the configuration gives the pool a limit; else only declared limits hold."""
        return self.configured is not None and not (self.limit is not None and self.limit.is_assumed)

    @property
    def rises_in(self) -> float:
        """Seconds until a higher limit is in force without anybody's doing; infinite if none is to come."""
        return math.inf if self.limit is None else self.limit.rises_in
