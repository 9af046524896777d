from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_snapshots import NOW, carried_out, entries, held, load_of_pool, names, snapshots
from staged_world import entry, pool_at

from leasecap._decisions import limits
from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN, decide
from leasecap._decisions.limits import UNLIMITED
from leasecap._decisions.loads import Loads
from leasecap._decisions.snapshot import Snapshot, living

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry


# -- loads -----------------------------------------------------------------------------------------------------------


@given(entries())
def test_the_load_counted_step_by_step_is_the_load_as_it_is_defined(held: list[Entry]) -> None:
    assert Loads(Group.of(held)).total == load_of_pool(held)


@given(entries(odd=False), st.data())
def test_removing_a_lease_never_raises_the_load(held: list[Entry], data: st.DataObject) -> None:
    while held:
        before = Loads(Group.of(held)).total
        held.remove(data.draw(st.sampled_from(held)))
        assert Loads(Group.of(held)).total <= before


@given(entries())
def test_what_a_grant_would_add_is_what_it_adds(everything: list[Entry]) -> None:
    everything.sort(key=lambda one: one.token)  # parents first, as it is in life
    loads = Loads()
    for number, one in enumerate(everything):
        added = loads.added_by(one)
        loads.add(one)
        assert loads.total == load_of_pool(everything[: number + 1])
        assert added == loads.total - load_of_pool(everything[:number])


def test_leases_that_name_each_other_as_ancestors_are_counted_and_end_nothing() -> None:
    assert Loads(Group.of([entry(1, 2), entry(2, 1)])).total >= 1
    assert Loads(Group.of([entry(1, 1)])).total == 1


# -- the plan --------------------------------------------------------------------------------------------------------


@given(snapshots())
def test_no_grant_takes_the_load_above_the_limit(snapshot: Snapshot) -> None:
    plan = decide(snapshot, NOW)
    kept = held(carried_out(snapshot, plan._replace(grant=())))
    before, after = load_of_pool(kept), load_of_pool([*kept, *plan.grant])
    limit = limits.effective_limit(snapshot)
    assert after <= max(before, limit or 0)


@given(snapshots())
def test_who_is_granted_is_who_the_rule_names(snapshot: Snapshot) -> None:
    # By the book: in the order of priority and arrival, while the load allows; who can't be has those behind him wait,
    # but for those who add nothing.
    plan = decide(snapshot, NOW)
    limit = limits.effective_limit(snapshot)
    now_held = held(carried_out(snapshot, plan._replace(grant=())))
    expected: list[Entry] = []
    somebody_waits = limit is None
    for ticket in sorted(living(snapshot).queue, key=lambda one: (-one.priority, one.order, one.token)):
        if ticket.process in snapshot.away or not ticket.token:
            continue
        load, with_it = load_of_pool(now_held), load_of_pool([*now_held, ticket])
        if with_it == load or (not somebody_waits and limit is not None and with_it <= limit):
            now_held.append(ticket)
            expected.append(ticket)
        else:
            somebody_waits = True
    assert names(plan.grant) == names(expected)


@given(snapshots())
def test_no_slot_stays_free_while_somebody_waits(snapshot: Snapshot) -> None:
    plan = decide(snapshot, NOW)
    after = carried_out(snapshot, plan)
    limit = limits.effective_limit(snapshot)
    if any(ticket.token and ticket.process not in snapshot.away for ticket in living(after).queue):
        assert limit is None or load_of_pool(held(after)) >= limit


@given(snapshots())
def test_a_plan_carried_out_leaves_nothing_to_do(snapshot: Snapshot) -> None:
    for _ in range(20):
        plan = decide(snapshot, NOW)
        snapshot = carried_out(snapshot, plan)
        if not plan.revoke:  # a revoked lease's declared limit is gone: there may be room for more
            break
    again = decide(snapshot, NOW)
    assert not (again.revoke or again.take_back or again.grant)


@given(snapshots())
def test_what_the_dead_left_decides_nothing(snapshot: Snapshot) -> None:
    plan, alive = decide(snapshot, NOW), living(snapshot)
    assert plan == decide(alive._replace(dead=frozenset(), gone=frozenset()), NOW)
    for others in (plan.grant, plan.take_back, plan.first, plan.stay, plan.behind):
        assert not set(names(others)) & snapshot.dead
        assert not {one.process for one in others} & snapshot.gone


@given(snapshots())
def test_who_does_not_run_is_granted_nothing_and_loses_its_grant(snapshot: Snapshot) -> None:
    plan = decide(snapshot, NOW)
    assert not {one.process for one in plan.grant} & snapshot.away
    alive = living(snapshot)
    late = {one.name for one in alive.granted if one.process in snapshot.away} - set(alive.leases.names)
    assert late <= set(names(plan.take_back))


@given(snapshots())
def test_the_first_two_processes_that_run_are_told_or_stay(snapshot: Snapshot) -> None:
    plan = decide(snapshot, NOW)
    left = [one for one in sorted(living(snapshot).queue) if one not in plan.grant and one.token]
    running = list(dict.fromkeys(one.process for one in left if one.process not in snapshot.away))
    assert {one.process for one in (*plan.first, *plan.stay)} == set(running[:2])


@given(snapshots())
def test_whoever_stood_right_behind_a_grant_is_told_or_watches_all(snapshot: Snapshot) -> None:
    plan = decide(snapshot, NOW)
    queue = sorted(living(snapshot).queue.names)
    granted = set(names(plan.grant))
    left = None
    for name in queue:
        if name in granted:
            left = name
            continue
        process = parse_entry(name).process
        if left is not None and process != parse_entry(left).process:
            told = {one.process for one in (*plan.first, *plan.stay, *plan.behind)}
            assert process in told
        left = None


@given(snapshots())
def test_one_who_waits_and_whose_declared_limit_holds_is_named(snapshot: Snapshot) -> None:
    found = list(limits.declarers(snapshot))
    without = snapshot._replace(dead=snapshot.dead | {one.name for one in found})
    limit = limits.effective_limit(snapshot)
    assert all(one.limit == limit for one in found)
    assert len({one.process for one in found}) == len(found)
    if not found:
        alive = living(snapshot)
        others = alive._replace(queue=Group(), parked=Group())
        assert limit == limits.effective_limit(others)
    else:
        assert limit is not None
        while more := list(limits.declarers(without)):
            if more[0].limit != limit:
                break
            without = without._replace(dead=without.dead | {one.name for one in more})
        assert (limits.effective_limit(without) or UNLIMITED) > limit


@given(snapshots())
def test_only_suspects_are_revoked_and_only_while_the_pool_is_over_its_limit(snapshot: Snapshot) -> None:
    snapshot = snapshot._replace(granted_since={}, away=frozenset())  # so that what is taken back is suspect as well
    plan = decide(snapshot, NOW)
    limit = limits.effective_limit(snapshot)
    excess = {*names(plan.revoke), *names(plan.take_back)}
    assert excess <= snapshot.suspect
    kept = held(snapshot)
    suspects = [one for one in kept if one.name in snapshot.suspect]
    for one in sorted(suspects, key=lambda one: (one.order, one.name), reverse=True):
        over = limit is not None and load_of_pool(kept) > limit
        if not over:
            assert not excess & set(names(kept))
            break
        if one.name in excess:
            kept.remove(one)


@given(snapshots())
def test_a_declared_limit_can_only_tighten(snapshot: Snapshot) -> None:
    alive = living(snapshot)
    everything = (*alive.queue, *alive.parked, *alive.granted, *alive.leases)
    said = [one.limit for one in everything if one.limit is not None]
    if snapshot.configured is not None:
        said.append(snapshot.configured)
    assert limits.effective_limit(snapshot) == (min(said) if said else None)


@pytest.mark.parametrize("where", ["queue", "parked", "granted", "leases"])
def test_a_limit_holds_as_long_as_who_declared_it_waits_or_holds(where: str) -> None:
    strict = entry(1, limit=1)
    snapshot = pool_at(configured=4, queue=(entry(2), entry(3)))
    snapshot = snapshot._replace(**{where: Group.of((strict, *getattr(snapshot, where)))})  # type: ignore[arg-type]
    assert limits.effective_limit(snapshot) == 1
    assert len(held(carried_out(snapshot, decide(snapshot, NOW)))) == 1
    ended = snapshot._replace(dead=frozenset({strict.name}))
    assert limits.effective_limit(ended) == 4
    assert names(decide(ended, NOW).grant) == names([entry(2), entry(3)])


# -- examples of what the rule means ---------------------------------------------------------------------------------


def test_two_free_slots_go_to_the_first_two_of_four_at_once() -> None:
    queue = (entry(14), entry(11), entry(13, priority=1), entry(12))
    plan = decide(pool_at(configured=4, queue=queue, leases=(entry(1), entry(2))), NOW)
    assert names(plan.grant) == names([entry(13, priority=1), entry(11)])


def test_without_any_limit_nobody_is_granted() -> None:
    assert decide(pool_at(configured=None, queue=(entry(1),)), NOW).grant == ()


def test_unlimited_grants_everybody() -> None:
    waiting = tuple(entry(number) for number in range(50))
    assert decide(pool_at(configured=UNLIMITED, queue=waiting), NOW).grant == waiting


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_a_chain_of_borrowers_never_locks_itself_out_at_a_cap_of_one(depth: int) -> None:
    leases: tuple[Entry, ...] = (entry(1),)
    for number in range(2, depth + 1):
        stranger, child = entry(90), entry(number, *range(number - 1, 0, -1), order=99)
        plan = decide(pool_at(configured=1, queue=(stranger, child), leases=leases), NOW)
        assert names(plan.grant) == [child.name]
        leases = (*leases, child)
    assert Loads(Group.of(leases)).total == 1
    for gone in leases:  # whoever of them ends, a stranger has to wait for the last
        rest = tuple(lease for lease in leases if lease is not gone)
        assert decide(pool_at(configured=1, queue=(entry(90),), leases=rest), NOW).grant == ()


def test_only_one_of_two_siblings_borrows_at_a_time() -> None:
    parent, first, second = entry(1), entry(2, 1), entry(3, 1)
    assert names(decide(pool_at(configured=1, queue=(second, first), leases=(parent,)), NOW).grant) == [first.name]
    assert decide(pool_at(configured=1, queue=(second,), leases=(parent, first)), NOW).grant == ()
    assert names(decide(pool_at(configured=2, queue=(second,), leases=(parent, first)), NOW).grant) == [second.name]


def test_a_slot_that_cools_down_is_lent_to_nobody() -> None:
    ended, child, stranger = entry(1), entry(4, 1), entry(3)
    snapshot = pool_at(configured=1, queue=(stranger, child), cooling=(ended,))
    assert decide(snapshot, NOW).grant == ()
    assert names(decide(snapshot._replace(configured=2), NOW).grant) == [stranger.name]
    living = pool_at(configured=1, queue=(stranger, child), leases=(ended,), cooling=(ended,))
    assert names(decide(living, NOW).grant) == [child.name], "it is marked before it ends"


def test_the_second_borrower_waits_in_the_queue_like_everybody_else() -> None:
    parent, first, second, stranger = entry(1), entry(2, 1), entry(4, 1), entry(3)
    snapshot = pool_at(configured=2, queue=(second, stranger), leases=(parent, first))
    assert names(decide(snapshot, NOW).grant) == [stranger.name]


def test_a_pool_over_a_lowered_limit_grants_to_borrowers_alone_and_so_drains() -> None:
    lenders = (entry(1), entry(2), entry(3))
    borrowers = (entry(14, 1), entry(15, 2), entry(16, 3))
    plan = decide(pool_at(configured=1, queue=(entry(10), *borrowers), leases=lenders), NOW)
    assert plan.over
    assert names(plan.grant) == names(borrowers)
    assert not plan.revoke  # lowering a limit never takes what runs


def test_a_grant_is_taken_back_when_it_was_not_acknowledged_in_time() -> None:
    granted, waiting = entry(1), entry(2)
    snapshot = pool_at(configured=1, queue=(waiting,), granted=(granted,), granted_since={granted.name: NOW})
    early = decide(snapshot, NOW + ACKNOWLEDGE_WITHIN - 0.001)
    assert (early.take_back, early.grant) == ((), ())
    late = decide(snapshot, NOW + ACKNOWLEDGE_WITHIN)
    assert (late.take_back, late.grant) == ((granted,), (waiting,))


def test_a_grant_seen_for_the_first_time_is_not_taken_back() -> None:
    assert decide(pool_at(configured=1, granted=(entry(1),)), NOW).take_back == ()


def test_a_grant_acknowledged_while_the_pool_was_read_is_not_taken_back() -> None:
    one, waiting = entry(1), entry(2)
    snapshot = pool_at(
        configured=1, queue=(waiting,), granted=(one,), leases=(one,), granted_since={one.name: NOW - 60}
    )
    plan = decide(snapshot, NOW)
    assert (plan.take_back, plan.grant) == ((), ())


def test_a_late_grant_of_a_dead_process_is_not_taken_back() -> None:
    late, waiting = entry(1), entry(2)
    since = {late.name: NOW - 60}
    dead = frozenset({late.name})
    plan = decide(pool_at(configured=1, queue=(waiting,), granted=(late,), granted_since=since, dead=dead), NOW)
    assert (plan.take_back, plan.grant) == ((), (waiting,))


def test_a_process_that_has_exited_has_no_ticket_left_but_its_leases() -> None:
    gone = [entry(number, process=1) for number in (1, 2, 3)]
    waiting = entry(9)
    snapshot = pool_at(configured=2, queue=(*gone[:2], waiting), leases=(gone[2],), gone=frozenset({gone[0].process}))
    plan = decide(snapshot, NOW)
    assert names(plan.grant) == [waiting.name]
    assert decide(snapshot._replace(configured=1), NOW).grant == ()


def test_tickets_of_one_process_make_it_first_only_once() -> None:
    many = [entry(number, process=1) for number in range(1, 6)]
    second, third = entry(8), entry(9)
    plan = decide(pool_at(configured=1, queue=(*many, second, third), leases=(entry(90),)), NOW)
    assert (plan.first, names(plan.stay)) == ((), [many[0].name, second.name])
    plan = decide(pool_at(configured=1, queue=(many[0], second, third)), NOW)
    assert (names(plan.grant), names(plan.first), names(plan.stay)) == ([many[0].name], [third.name], [second.name])


def test_a_grant_past_a_stopped_process_tells_who_comes_to_be_second_behind_it() -> None:
    stopped, second, third = entry(1), entry(2), entry(3)
    away = frozenset({stopped.process})
    snapshot = pool_at(configured=1, queue=(stopped, second, third), away=away)
    assert names(decide(snapshot, NOW).first) == [third.name]
    full = decide(snapshot._replace(configured=0), NOW)
    assert (names(full.grant), full.first) == ([], ()), "without a grant nothing has changed"


def test_suspects_are_revoked_newest_first_until_the_pool_is_within_its_limit() -> None:
    leases = tuple(entry(number) for number in (3, 1, 4, 2, 5))
    snapshot = pool_at(configured=3, leases=leases, suspect=frozenset(names([entry(1), entry(2), entry(4)])))
    plan = decide(snapshot, NOW)
    assert plan.over
    assert set(names(plan.revoke)) == set(names([entry(4), entry(2)]))
    assert decide(snapshot._replace(configured=5), NOW).revoke == ()


def test_a_suspect_grant_above_the_limit_goes_back_to_the_queue() -> None:
    grant = entry(2)
    plan = decide(pool_at(configured=1, leases=(entry(1),), granted=(grant,), suspect=frozenset({grant.name})), NOW)
    assert (plan.take_back, plan.revoke) == ((grant,), ())


def test_an_unknown_name_counts_as_held_and_is_never_granted() -> None:
    unknown, another = parse_entry("lost+found"), parse_entry("x")
    assert decide(pool_at(configured=1, queue=(entry(1),), leases=(unknown,)), NOW).grant == ()
    assert Loads(Group.of([unknown, another])).total == 2
    assert names(decide(pool_at(configured=2, queue=(unknown, entry(1)), leases=(another,)), NOW).grant) == [
        entry(1).name
    ]
    assert decide(pool_at(configured=9, queue=(unknown,)), NOW).grant == ()


def test_who_was_parked_is_passed_over_until_it_moves() -> None:
    parked, waiting = entry(1, priority=9), entry(2)
    assert names(decide(pool_at(configured=2, queue=(waiting,), parked=(parked,)), NOW).grant) == [waiting.name]
