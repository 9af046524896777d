"""What holds for the requests to one upstream: which pool, and for how long to wait for what."""

from __future__ import annotations

from leasecap._ancestry import is_same_pool, place
from leasecap._config.root import root_path
from leasecap._config.time_outs import TimeOuts, is_local
from leasecap._errors import StoreError
from leasecap._named_tuple import NamedTuple
from leasecap._provider.chain import metered_nearer
from leasecap._request import Options
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._config.config import PoolConfig
    from leasecap._gate.upstreams import Upstream
    from leasecap._store.store import Root


class Terms(NamedTuple):
    """What holds for one request. Durations are seconds; None: for ever.

    :ivar pool: whose slot it takes; None: it takes none here.
    :ivar nearer: whether a gate nearer to the provider meters it.
    :ivar unsure: whether only a server can tell if requests take a slot: then `Pools.ask`, which takes its time.
    :ivar by_task: whether the requests of earlier prompts go first.
    """

    upstream: Upstream
    pool: str | None
    nearer: bool
    unsure: bool
    by_task: bool
    options: Options
    first_byte_timeout: float | None
    idle_timeout: float | None
    answer_timeout: float | None
    absorb: float
    keep_place: float


class Pools:
    """Which pool each upstream has, by the configuration as it stands when a request comes."""

    def __init__(self, own: Mapping[str, str], options: Options, environ: Mapping[str, str]) -> None:
        """
        :param own: the pool of the command's own upstreams, by their names; they are never passed through unmetered.
        :param options: of the command line; what concerns the pool holds for the command's own.
        :param environ: says which upstreams are gates themselves (`chain`).
        """
        self._own = own
        self._options = options
        self._environ = environ
        self._limited: set[str] = set()  # places of pools that a server has a limit for

    def ask(self, upstream: Upstream) -> bool:
        """Ask the server that keeps the upstream's pool whether that has a limit. That it has one is remembered.

        :raises ConfigError, StoreError: when it can't be asked.
        """
        root, settings, _ = self._settings(upstream)
        limited = runtime.has_limit(settings)
        if limited:
            self._limited.add(place(root.path, settings.name.directory))
        return limited

    def metered_at(self, upstream: Upstream) -> str | None:
        """The place of the pool in which a request to that upstream takes a slot, here or nearer to the provider.

        None: in no pool.
        """
        root, settings, metered = self._settings(upstream)
        if not metered and settings.store is not None:
            try:
                metered = self.ask(upstream)
            except StoreError:
                metered = True  # no request passes before that is known
        return place(root.path, settings.name.directory) if metered else self._metered_nearer(upstream)

    def terms(self, upstream: Upstream) -> Terms:
        """What holds for a request to that upstream now.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        root, settings, metered = self._settings(upstream)
        unsure = not metered and settings.store is not None
        nearer = self._metered_nearer(upstream)
        if nearer is not None and is_same_pool(nearer, place(root.path, settings.name.directory)):
            metered = unsure = False
        requests, time_outs = settings.requests, TimeOuts(settings.requests, local=is_local(upstream.host))
        return Terms(
            upstream,
            settings.name.text if metered else None,
            nearer is not None,
            unsure,
            metered and runtime.by_task(settings),
            self._options if upstream.name in self._own else Options(borrow=self._options.borrow),
            time_outs.first_byte,
            time_outs.idle,
            time_outs.answer,
            requests.absorb,
            requests.keep_place,
        )

    def _metered_nearer(self, upstream: Upstream) -> str | None:
        return metered_nearer(upstream.address, upstream.base_path, self._environ)

    def _settings(self, upstream: Upstream) -> tuple[Root, PoolConfig, bool]:
        """The root, what holds for the upstream's pool, and whether a request takes a slot of it."""
        root = runtime.root(root_path())
        own = self._own.get(upstream.name)
        settings = root.config.pool(own or upstream.origin)
        metered = own is not None or settings.limit is not None
        if not metered and self._limited:
            metered = place(root.path, settings.name.directory) in self._limited
        return root, settings, metered
