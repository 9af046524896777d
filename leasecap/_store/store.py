"""What any store offers for one pool, and for one root."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    from leasecap._config.config import Config
    from leasecap._feedback.adaptive import Report
    from leasecap._feedback.latency import Table
    from leasecap._feedback.state import State
    from leasecap._liveness.presence import Identity
    from leasecap._store.terms import Terms
    from leasecap._store.ticket import Ticket, Want
    from leasecap._store.view import PoolView

    class Store(Protocol):
        """One open pool. The threads of a process share it.

        :ivar name: the pool's name.
        :ivar path: where it stands, for people.
        :ivar place: the root and the pool's directory in it, or whatever identifies the pool.
        :ivar terms: what the configuration and the program say of feedback.
        """

        @property
        def name(self) -> str: ...

        @property
        def path(self) -> str: ...

        @property
        def place(self) -> tuple[str, str]: ...

        @property
        def terms(self) -> Terms: ...

        def me(self) -> Identity:
            """This process."""

        def monotonic(self) -> float:
            """The seconds of the clock by which deadlines are given."""

        def wall_clock(self) -> float:
            """Seconds since 1970."""

        def chance(self) -> float:
            """A random number from 0 to 1."""

        def ticket(self, want: Want) -> Ticket:
            """A new call for a slot."""

        def view(self) -> PoolView:
            """The pool as it stands.

            :raises OSError, StoreError: when it can't be read.
            """

        def view_in_steps(self, wake: Callable[[], None]) -> Generator[float, None, PoolView]:
            """The same for who must not block; yields for how long to pause at most.

            :param wake: called from any thread when it is worth going on before the pause is over.
            :raises OSError, StoreError: as `view`.
            """

        def end(self, name: str) -> bool:
            """End the lease of that name, whoever holds it; False if it is gone.

            :raises OSError: when it can't be removed.
            """

        def post(self, report: Callable[[], Report]) -> None:
            """Note what the provider has answered, and reconcile the pool with it.

            :param report: makes it; called where it may wait for the store.
            :raises OSError, StoreError: when it can't be noted.
            """

        def update_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
            """Try once to change the feedback's state and reconcile the pool with it; False: the pool is busy.

            :param change: is given the state and the time (boot clock, seconds).
            :param anew: a state that can't be read is forgotten.
            :raises StoreError: when it can't be read or written.
            """

        def feedback_now(self) -> float:
            """The time now, by the clock of the feedback's state (seconds)."""

        def add_latency(self, hour: int, table: Table, tell: Callable[[str], object]) -> Table | None:
            """Add to what is known of how long requests took in one hour (since 1970); one thread at a time.

            Returns all that is known of that hour; None: another process is adding to it.

            :param tell: called with what people have to know.
            :raises StoreError: when it can't be noted.
            """

        def busy_with(self) -> str:
            """Who keeps the pool busy, as far as that can be seen."""

        def wake_all(self) -> None:
            """Have all waiters look, in all processes."""

    class Root(Protocol):
        """One root, as this process uses it."""

        path: str

        @property
        def config(self) -> Config: ...

        def refresh(self) -> bool:
            """Read ``config.toml`` again if it has changed; returns whether anything has.

            :raises ConfigError, StoreError: when it can't be used; the last good one stays.
            """
