"""What any store shows of its pools to people. To read it takes no lock and writes nothing."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal, Protocol

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._decisions.entry import Entry
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._feedback.latency import Table
    from leasecap._liveness.record import Record
    from leasecap._store.view import FeedbackView

    State = Literal["held", "granted", "waiting", "stopped", "deaf", "parked"]

    class Pictures(Protocol):
        """The pools of one root.

        :ivar unlisted: what has kept `names` from naming more, for people; "" if nothing has.
        """

        unlisted: str

        def names(self) -> list[PoolName]:
            """The names of the pools that somebody has used.

            :raises StoreError: when that can't be read.
            """

        def pool(self, name: PoolName, settings: PoolConfig | None, hours: int = 0) -> PoolPicture | None:
            """The picture of one pool; None if nobody has used it.

            :param settings: what the configuration says of it; None if the configuration can't be used.
            :param hours: of how many, the one that has begun included, to show how long requests took.
            :raises OSError, LeasecapError: when the pool can't be read.
            """

        def silent_gates(self) -> tuple[SilentGate, ...]:
            """The gates that have run for a while without a request that took a slot.

            :raises OSError: when that can't be read.
            """

        def standing_gates(self) -> tuple[StandingGate, ...]:
            """Each `leasecap gate` that runs here.

            :raises OSError: when that can't be read; also when there was never one.
            """


class SilentGate(NamedTuple):
    """A gate that nothing comes through, so that its command may not know of it.

    :ivar pid: of the gate, which has started the command.
    """

    pid: int
    command: str


class StandingGate(NamedTuple):
    """A `leasecap gate` that runs.

    :ivar port: of 127.0.0.1.
    :ivar variables: what follows the gate's token in the address that an agent needs in each variable.
    :ivar upstreams: by name: the URL without a path, and what follows the token in a client's address.
    """

    pid: int
    port: int
    variables: Mapping[str, str]
    upstreams: Mapping[str, tuple[str, str]]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class EntryPicture(NamedTuple):
    """A lease, or a ticket in the queue.

    :ivar state: a lease is "held", or "granted" while its waiter has not yet acknowledged; a ticket is "waiting",
        "parked", or passed over since its process is "stopped" or "deaf".
    :ivar record: what it says of its process; None if that can't be read.
    :ivar host: where its process runs; None for this machine.
    :ivar alive: False when its process is provably gone.
    :ivar evidence: what ``alive`` rests on.
    :ivar stopped: whether its process, or its command, is seen to be stopped.
    :ivar since: seconds since it was granted, or asked for; None if this boot's clock can't say.
    :ivar heartbeat_age: seconds since its last heartbeat; None likewise.
    :ivar over_max_hold: seconds for which it has been held beyond its time; negative before that, 0 where it has none.
    :ivar answered: seconds since the answer began of the request that it is for; None: it has not, or as ``since``.
    """

    entry: Entry
    state: State
    record: Record | None
    host: str | None
    alive: bool
    evidence: str
    stopped: bool
    since: float | None
    heartbeat_age: float | None
    over_max_hold: float
    answered: float | None = None


class LatencyPicture(NamedTuple):
    """How long requests took.

    :ivar hours: the tables by their hour since 1970.
    :ivar troubles: what can't be read, for people.
    """

    hours: Mapping[int, Table]
    troubles: tuple[str, ...]


class PoolPicture(NamedTuple):
    """A pool at one moment.

    :ivar path: where it stands.
    :ivar lock: "os" or "directory"; "server" for a pool that a server keeps.
    :ivar stable: False if it changed so fast that no consistent view could be had.
    :ivar snapshot: what decisions go by.
    :ivar leases: the leases in the order of the queue, as the tickets are.
    :ivar feedback: what the provider's answers have made of the pool; None where nobody has reported any.
    :ivar error: why ``feedback`` can't be read, or None.
    :ivar latency: how long requests took.
    :ivar notes: what else people should know, a line each.
    """

    path: str
    lock: str
    stable: bool
    snapshot: Snapshot
    leases: tuple[EntryPicture, ...]
    queue: tuple[EntryPicture, ...]
    parked: tuple[EntryPicture, ...]
    feedback: FeedbackView | None
    error: str | None
    latency: LatencyPicture
    notes: tuple[str, ...] = ()
