"""Short texts about a pool, for errors and for waiters."""

from __future__ import annotations

import math

from leasecap._ancestry import ENVIRONMENT, reference
from leasecap._decisions.limits import full_limit
from leasecap._durations import format_duration
from leasecap._errors import ConfigError
from leasecap._host.process import ancestors_of
from leasecap._liveness.record import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config
    from leasecap._liveness.presence import Identity
    from leasecap._store.view import LeaseView, PoolView


def holder_lines(view: PoolView) -> tuple[str, ...]:
    """One line for each lease, the one held longest first."""
    lines = [(-1.0 if lease.held_for is None else lease.held_for, _line(lease)) for lease in view.leases]
    return tuple(line for _, line in sorted(lines, reverse=True))


def _line(lease: LeaseView) -> str:
    who = "unreadable record" if lease.record is None else called(lease.record)
    if lease.held_for is not None and lease.held_for >= 0:
        who += f" for {format_duration(lease.held_for)}"
    if lease.doubt:  # it can't be told from here whether the holder lives, so only a person can end the lease
        who += f" ({lease.doubt}; if it is gone: leasecap release {lease.entry.token or lease.entry.name})"
    return who


def why(view: PoolView) -> str | None:
    """Why slots are kept back by the provider's answers, or by an edit of the configuration."""
    lines: tuple[str, ...] = ()
    feedback = view.feedback
    if feedback is not None:
        from leasecap._feedback.messages import explain

        full = full_limit(view.snapshot)
        lines = explain(feedback.state, feedback.rules, feedback.now, view.pool, full, feedback.cooling)
    if view.rises_in < math.inf:
        lines += ("config.toml has just been edited: its higher limit counts once it has been the same for 1 s",)
    if view.trouble:
        lines += (view.trouble,)
    return "; ".join(lines) or None


def no_limit(pool: str, config: Config) -> ConfigError:
    """The error where nothing gives the pool a limit; the name may be misspelt."""
    import shlex

    from leasecap._config.nearest import nearest
    from leasecap._config.pool_name import pool_name

    known, identity = config.names(), pool_name(pool).identity
    meant = None if identity in known else nearest(identity, known)
    return ConfigError(
        f"pool {pool!r} has no limit" + (f"; did you mean {known[meant]}?" if meant else ""),
        file=config.path,
        allowed=("name it, or, if it is to be a pool of its own, " if meant else "")
        + f"set one: leasecap limit {shlex.quote(pool)} 4     "
        "(for one call only: --limit N, or limit=N in Python)",
    )


def parent_notice(view: PoolView, me: Identity, place: tuple[str, str]) -> str | None:
    """A notice if a parent of this process holds what it waits for, but ``LEASECAP_LEASE`` didn't arrive; else None.

    :param place: of the pool, as a store has it.
    """
    parents = set(ancestors_of(me.pid))
    for lease in view.leases:
        record = lease.record
        if record is not None and record.pid_ns == me.pid_ns and record.pid in parents:
            if record.proof == "pid":  # no hook can change the environment of its agent
                import shlex

                shared = shlex.quote(reference(*place, lease.entry.token))
                return (
                    f"{called(record)}, a parent of this process, has a slot of this pool by a hook: to run on that "
                    f"slot, begin with {ENVIRONMENT}={shared}"
                )
            return (
                f"{called(record)} holds a slot of this pool and is a parent of this process, but "
                f"{ENVIRONMENT} did not reach it (env -i? sudo?): pass it on, so that its slot can be borrowed"
            )
    return None
