"""Pools as an observer might see them, to draw examples from, and what a load is, in the words of its definition."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st
from staged_world import entry, pool_at

from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN, Plan
from leasecap._decisions.limits import UNLIMITED
from leasecap._decisions.snapshot import Snapshot, living

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

NOW = 1000.0


def load_of_pool(held: Iterable[Entry]) -> int:
    living = {one.token or one.name: one for one in held}

    def lender(one: Entry) -> str | None:
        return next((token for token in one.ancestors if token in living), None)

    def load(token: str) -> int:
        return max(1, sum(load(other) for other, one in living.items() if lender(one) == token))

    return sum(load(token) for token, one in living.items() if lender(one) is None)


@st.composite
def entries(draw: st.DrawFn, *, most: int = 10, odd: bool = True) -> list[Entry]:
    """Entries that run under each other; some opted out of borrowing.

    :param odd: some know their chain in parts or out of order, or name a lease that ended long ago.
    """
    found: list[Entry] = []
    chains: list[list[int]] = []
    for number in range(draw(st.integers(0, most))):
        chain: list[int] = []
        if draw(st.integers(0, 3)) and found:
            parent = draw(st.integers(0, number - 1))
            chain = [parent, *chains[parent]][:9]
        chains.append(chain)
        how = draw(st.integers(0, 7))
        if how == 0:
            chain = []
        elif odd and how == 1:
            chain = list(draw(st.permutations(chain)))
        elif odd and how == 2:
            chain = chain[draw(st.integers(0, 1)) :: draw(st.integers(1, 3))]
        elif odd and how == 3:
            chain = [*chain[:1], 900, *chain[1:8]]
        limit = draw(st.sampled_from((None, None, None, None, None, 1, 2, 3, 5)))
        order = draw(st.integers(0, 4))  # few, so that some are equal
        process = draw(st.integers(0, 3)) if draw(st.booleans()) else None  # some processes have several tickets
        priority = draw(st.integers(-2, 2))
        found.append(entry(number, *chain, priority=priority, limit=limit, order=order, process=process))
    return draw(st.permutations(found))


GARBAGE = st.sampled_from(["x", "lost+found", "500-1-2-3-4", "\udcff"]).map(parse_entry)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    places: dict[str, list[Entry]] = {"queue": [], "parked": [], "granted": [], "leases": []}
    everything = draw(entries())
    for one in everything:
        is_parent = any(one.token in other.ancestors for other in everything)
        waits = ["queue", "queue", "parked", "granted"]  # nothing runs under what was never held
        places[draw(st.sampled_from(["leases"] if is_parent else [*waits, "leases", "leases"]))].append(one)
    if draw(st.integers(0, 3)) == 0:
        places[draw(st.sampled_from(["queue", "leases"]))].append(draw(GARBAGE))
    processes = sorted({one.process for one in everything})
    fates = {process: draw(st.sampled_from(["runs"] * 6 + ["gone", "away"])) for process in processes}
    ages = st.sampled_from([0.0, 0.5, ACKNOWLEDGE_WITHIN - 0.01, ACKNOWLEDGE_WITHIN, 60.0])
    return pool_at(
        configured=draw(st.sampled_from([None, 1, 2, 3, 4, 6, UNLIMITED])),
        queue=tuple(places["queue"]),
        parked=tuple(places["parked"]),
        granted=tuple(places["granted"]),
        leases=tuple(places["leases"]),
        dead=frozenset(one.name for one in everything if draw(st.integers(0, 7)) == 0),
        gone=frozenset(process for process in processes if fates[process] == "gone"),
        away=frozenset(process for process in processes if fates[process] == "away"),
        granted_since={one.name: NOW - draw(ages) for one in places["granted"] if draw(st.booleans())},
        suspect=frozenset(
            one.name for one in (*places["granted"], *places["leases"]) if one.token and draw(st.integers(0, 3)) == 0
        ),
    )


def carried_out(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The pool after the plan."""

    def moved(group: Group, gone: Iterable[Entry], come: Iterable[Entry] = ()) -> Group:
        return Group.of((*group.without({one.name for one in gone}), *come))

    return snapshot._replace(
        queue=moved(snapshot.queue, plan.grant),
        parked=moved(snapshot.parked, (), plan.take_back),
        granted=moved(snapshot.granted, plan.take_back, plan.grant),
        leases=moved(snapshot.leases, plan.revoke),
    )


def held(snapshot: Snapshot) -> list[Entry]:
    snapshot = living(snapshot)
    return [*snapshot.granted, *snapshot.leases]


def names(found: Iterable[Entry]) -> list[str]:
    return [one.name for one in found]
