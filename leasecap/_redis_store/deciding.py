"""Deciding in Python for a pool that isn't plain: a snapshot comes in, what `COMMIT` is to carry out goes out. Pure."""

from __future__ import annotations

import json
import math
from functools import lru_cache

from leasecap._decisions.entry import Group, process_of
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN, decide
from leasecap._decisions.limits import UNLIMITED, effective_limit, full_limit, in_flight
from leasecap._decisions.snapshot import Snapshot
from leasecap._errors import StoreError
from leasecap._feedback import adaptive
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, State, decode_state, encode_state
from leasecap._named_tuple import NamedTuple, from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from leasecap._feedback.adaptive import Report
    from leasecap._redis_store.answer import Seen

    Change = Callable[[State, float], State]
    T = TypeVar("T")

_GROWTH_LOOK = 1.0
"""Seconds between decisions while a reduced limit keeps somebody out: it grows while that is seen without a gap."""

ARRIVAL = "arrival"

OWN_KEYS = ("usage_url", "usage_command", "usage_field", "usage_key_env", "usage_key_header")
"""How a machine asks the provider for its count is its own affair: nobody who can write to the server makes it run a
command, or send a key to a host."""

_LONGEST = 1e9  # seconds until the next decision, at most


class Decided(NamedTuple):
    """What is to be done.

    :ivar feedback: the state as JSON, "none" if nothing is left of it, or "same".
    :ivar due: seconds until it has to be decided anew, if nothing changes before.
    :ivar unanswered: whether somebody wasn't granted a slot only because the provider's own count is missing.
    :ivar may_ask: whether the provider is to be asked for it now.
    """

    version: str
    take_back: tuple[str, ...]
    grant: tuple[str, ...]
    feedback: str
    due: float
    unanswered: bool = False
    may_ask: bool = False


def snapshot_of(
    seen: Seen, state: State, rules: Rules, newcomer: str | None = None, *, counts: bool = False
) -> Snapshot:
    """The snapshot that decisions go by.

    :param counts: this process asks the provider for its count, whatever the policy says.
    """
    cooled_in = min((until - seen.now for until in seen.cooling.values()), default=math.inf)
    late = tuple(name for name, since in seen.granted.items() if seen.now - since >= ACKNOWLEDGE_WITHIN)
    away = frozenset(map(process_of, late))
    # What else a process that doesn't run was granted counts as held until that is late, too: another thread of it may
    # have begun on its message.
    young = tuple(name for name in seen.granted if process_of(name) in away and name not in late) if away else ()
    return Snapshot(
        seen.limit,
        queue=Group(seen.queue),
        parked=Group(seen.passed),
        granted=Group(tuple(name for name in seen.granted if name not in young)),
        leases=Group((*seen.leases, *young)),
        granted_since=seen.granted,
        cooling=Group(tuple(seen.cooling)),
        away=away,
        newcomer=newcomer,
        admission=adaptive.admission(state, rules, seen.now, gated=counts or rules.ask, cooled_in=cooled_in),
    )


def state_of(seen: Seen) -> State:
    """The feedback's state.

    :raises ValueError: when it can't be read, since it might hold a pause.
    """
    return decode_state(seen.feedback.encode()) if seen.feedback else NOTHING


def rules_of(seen: Seen) -> Rules:
    """What the pool's policy says of feedback.

    :raises ValueError: when it can't be read.
    """
    return rules_in(seen.rules)


@lru_cache(maxsize=64)
def rules_in(text: str) -> Rules:
    """The rules in a policy's JSON; a field that is unknown is ignored, a missing one has its default."""
    fields = {key: value for key, value in _policy(text).items() if key not in OWN_KEYS}
    return from_json(Rules, fields)


def order_in(text: str) -> str:
    """What goes first in a policy's JSON."""
    return str(_policy(text).get("order", ARRIVAL))


def _policy(text: str) -> dict[str, object]:
    found = json.loads(text) if text else {}
    if not isinstance(found, dict):
        raise ValueError("can't be read")
    return found


def decision(
    seen: Seen,
    newcomer: str | None = None,
    change: Change | None = None,
    *,
    anew: bool = False,
    counts: bool = False,
) -> Decided:
    """What the snapshot calls for.

    :param change: changes the feedback's state first.
    :param anew: a state that can't be read is forgotten.
    :param counts: see `snapshot_of`.
    :raises ValueError: when feedback or rules can't be read.
    """
    rules, now = rules_of(seen), seen.now
    try:
        state = state_of(seen)
    except ValueError:
        if not anew:
            raise
        state = NOTHING
    if change is not None:
        state = change(state, now)
    if seen.closed_for:  # nobody is granted anything: that is decided once it is over
        return Decided(seen.version, (), (), _encoded(state, seen), seen.closed_for)
    if rules.stagger_after_idle and not (seen.leases or seen.granted) and seen.idle_for >= rules.stagger_after_idle:
        state = adaptive.idled(state)
    while True:
        snapshot = snapshot_of(seen, state, rules, newcomer, counts=counts)
        plan = decide(snapshot, now)
        full = full_limit(snapshot) if plan.pressed else None
        grown = state if full is None else adaptive.pressed(state, rules, now, full)
        if grown == state or _limit(grown, rules, now) == _limit(state, rules, now):
            break
        state = grown
    waits = len(seen.queue) > len(plan.grant)
    state = adaptive.granted(grown, now, plan.high, plan.spent, len(plan.grant))
    due = snapshot.admission.changes_in
    if plan.high is not None and waits:
        due = min(due, rules.stagger)
    if plan.pressed:
        due = min(due, _GROWTH_LOOK)
    if plan.ask or plan.spent:
        held = len(seen.leases) + len(seen.granted)
        state = adaptive.noted_held(state, held, held - len(plan.take_back) + len(plan.grant))
    if plan.ask:
        due = min(due, adaptive.answer_due(state, rules, now))
    return Decided(
        seen.version,
        tuple(entry.name for entry in plan.take_back),
        tuple(entry.name for entry in plan.grant),
        _encoded(state, seen),
        min(max(due, 0.0), _LONGEST),
        plan.ask,
        plan.ask and adaptive.may_ask(state, rules, now),
    )


def _limit(state: State, rules: Rules, now: float) -> int | None:
    return adaptive.admission(state, rules, now, gated=False).limit


def _encoded(state: State, seen: Seen) -> str:
    # The server's clock is the only one, so a state needs none of its own; one without content is no state.
    state = state._replace(epoch="server", boot=0.0, wall=0.0)
    if state == NOTHING._replace(epoch="server"):
        return "none" if seen.feedback else "same"
    text = encode_state(state).decode("ascii")
    return "same" if text == seen.feedback else text


def report_change(seen: Seen, report: Report, ago: float = 0.0) -> Change:
    """The change that a report makes of the feedback's state, in the pool as it was seen.

    :param ago: seconds since it was made: its process may have been stopped, or the server away.
    """
    rules = rules_of(seen)

    def change(state: State, now: float) -> State:
        snapshot = snapshot_of(seen, state, rules)
        load = in_flight(snapshot)
        level = effective_limit(snapshot)
        if level is None or level >= UNLIMITED:
            level = max(load, 1)
        return adaptive.reported(state, rules, now - ago, report, level, load)

    return change


def decision_or_fault(path: str, decide: Callable[[], T]) -> T:
    """What ``decide`` returns.

    :raises StoreError: when what the store says of feedback can't be read.
    """
    try:
        return decide()
    except (ValueError, TypeError, AttributeError) as error:
        raise StoreError(
            f"what the pool knows of its provider's answers {error}",
            path=path,
            remedy="it may hold a pause, so nobody is granted a slot: `leasecap resume POOL` clears it away",
        ) from None
