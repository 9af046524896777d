"""What a call says of itself to a server, for the other machines."""

from __future__ import annotations

from functools import partial

from leasecap._host.own_record import own_record
from leasecap._liveness.record import encode_record
from leasecap._redis_store.keys import agent_field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._liveness.record import Record
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.open_pool import OpenPool
    from leasecap._store.ticket import Want


def record_of(store: OpenPool, want: Want) -> Record:
    """What it says while it waits."""
    me = store.own.effects.me()
    record = own_record(me, store.name, local=False, label=want.label, argv=want.argv, purpose=want.purpose)
    if store.settings.record == "minimal":
        purpose = want.purpose and want.purpose._replace(agent=None)  # the name of a command or a script
        record = record._replace(command="", cwd="", purpose=purpose)
    return record if want.agent is None else record._replace(agent=want.agent)


def held_record(store: OpenPool, want: Want, record: Record) -> Record:
    """What it says from the grant on."""
    max_hold = store.pool.holding.at_most(want.max_hold)
    return record._replace(max_hold=max_hold, kill_after=None if max_hold is None else want.kill_after)


def question(
    store: OpenPool, want: Want, record: Record, *, order: int | None, token: str, limit: int | None, may_queue: bool
) -> Callable[[], Answer]:
    """What asks for a slot; see `Pool.place`."""
    return partial(
        store.pool.place,
        priority=want.priority,
        order=order,
        task_age=_task_age(store, want),
        token=token,
        process=store.own.process.id,
        limit=limit,
        may_queue=may_queue,
        record=encode_record(record),
        lenders=want.lenders,
        agent=agent_field(record),
        ask=store.ask,
    )


def _task_age(store: OpenPool, want: Want) -> float:
    """Seconds since the task began, by this process's own clock: no two clocks are compared."""
    began = want.task_since
    return 0.0 if began is None else max(store.own.effects.wall_clock() - began, 0.0)
