"""The pools of one root as people are shown them, wherever they are kept."""

from __future__ import annotations

from leasecap._errors import ConfigError, LeasecapError
from leasecap._store_changes import note, users_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._store.picture import Pictures, PoolPicture, SilentGate, StandingGate

    class ServerPictures(Protocol):
        """Those of pools on servers.

        :ivar unlisted: see `Pictures`.
        """

        unlisted: str

        def names(self) -> list[PoolName]:
            """The names of pools that somebody has used, as far as that can be told."""

        def pool(self, settings: PoolConfig, hours: int = 0) -> PoolPicture | None:
            """See `Pictures.pool`."""


class AllPictures:
    """Those that stand in files, and those that servers keep."""

    def __init__(
        self,
        files: Pictures,
        on_servers: Callable[[Sequence[StoreAddress]], ServerPictures],
        addresses: Sequence[StoreAddress],
        former: Callable[[PoolConfig], PoolConfig | None],
    ) -> None:
        """
        :param on_servers: gives those of the servers at these addresses; it loads what talks to servers.
        :param addresses: of the servers that the configuration names.
        :param former: the pool in the store in which it was used before; None: in the one that is configured.
        """
        self.unlisted = ""
        self._files = files
        self._on_servers = on_servers
        self._servers: ServerPictures | None = None
        self._addresses = addresses
        self._former = former

    def names(self) -> list[PoolName]:
        found = {name.directory: name for name in self._files.names()}
        if self._addresses:
            try:
                servers = self._those_on_servers()
            except ConfigError as error:  # what talks to servers isn't installed
                self.unlisted = str(error)
                return list(found.values())
            for name in servers.names():
                found.setdefault(name.directory, name)
            self.unlisted = servers.unlisted
        return list(found.values())

    def pool(self, name: PoolName, settings: PoolConfig | None, hours: int = 0) -> PoolPicture | None:
        if settings is None:
            return self._files.pool(name, None, hours)
        picture = self.in_its_store(name, settings, hours)
        try:
            former = self._former(settings)
            before = None if former is None else self.in_its_store(name, former, hours)
        except (OSError, LeasecapError):
            return picture  # whoever asks for a slot is told
        if before is None or not (users := users_in(before, picture)):
            return picture
        found = picture or before
        return found._replace(notes=(*found.notes, note(settings, users, before.path)))

    def in_its_store(self, name: PoolName, settings: PoolConfig, hours: int = 0) -> PoolPicture | None:
        """`pool`, whatever store it was used in before.

        :param name: of its directory; what is written in that may be broken.
        """
        if settings.store is not None:
            return self._those_on_servers().pool(settings, hours)
        return self._files.pool(name, settings, hours)

    def _those_on_servers(self) -> ServerPictures:
        if self._servers is None:
            self._servers = self._on_servers(self._addresses)
        return self._servers

    def silent_gates(self) -> tuple[SilentGate, ...]:
        return self._files.silent_gates()

    def standing_gates(self) -> tuple[StandingGate, ...]:
        return self._files.standing_gates()
