"""Leases that no code refers to any more: each gives its slot back, wherever the last reference goes."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from holders import can_be_had, configure
from insides import own_entry_of, store_of
from referee import DEADLINE, Team, until

import leasecap
from leasecap import _ancestry
from leasecap._runtime import runtime

pytestmark = pytest.mark.usefixtures("pool")

warned = pytest.mark.filterwarnings("ignore:.*dropped without a release:ResourceWarning")


def free() -> bool:
    lease = leasecap.try_acquire("p", borrow=False)
    if lease is not None:
        lease.release()
    return lease is not None


@warned
def test_a_lease_in_a_cycle_gives_its_slot_back_when_it_is_collected() -> None:
    lease = leasecap.acquire("p")
    lease.myself = lease  # type: ignore[attr-defined]
    found = weakref.ref(lease)
    gc.disable()
    try:
        del lease
        assert found() is not None and not free()
    finally:
        gc.enable()
    gc.collect()
    until(free, "the slot")


@warned
def test_what_a_dropped_lease_waits_for_is_heard() -> None:
    lease = leasecap.acquire("p")
    lost, expired = lease.lost, lease.expired
    del lease
    assert lost.wait(DEADLINE), "whoever kept the sign alone learns that the slot is another's"
    assert not expired


@warned
def test_a_waiter_is_granted_what_was_dropped() -> None:
    held = [leasecap.acquire("p")]
    got: list[leasecap.Lease] = []
    waiter = threading.Thread(target=lambda: got.append(leasecap.acquire("p", timeout=DEADLINE)))
    waiter.start()
    until(lambda: leasecap.status("p").pools[0].waiting == 1, "a waiter")
    held.clear()
    waiter.join()
    got[0].release()


@warned
def test_a_name_that_is_bound_again_or_deleted_gives_the_old_slot_back() -> None:
    notebook: dict[str, object] = {"leasecap": leasecap}
    for forgets in ("del lease", "lease = None", "lease = 1", "del lease"):
        exec("lease = leasecap.acquire('p', timeout=60)", notebook)
        exec(forgets, notebook)
    until(free, "the slot")


def test_a_released_lost_or_referred_to_lease_is_told_of_nothing(caplog: pytest.LogCaptureFixture) -> None:
    lease = leasecap.acquire("p")
    lease.release()
    del lease
    kept = leasecap.acquire("p")
    gc.collect()
    assert not free() and kept.held
    assert store_of(kept).end(own_entry_of(kept).name)
    assert kept.lost.wait(DEADLINE)
    del kept
    gc.collect()
    assert caplog.records == []


@warned
@pytest.mark.parametrize("taken", ["process", "heartbeats", "lease", "section"])
def test_the_last_reference_may_go_inside_any_lock(taken: str) -> None:
    lease = leasecap.acquire("p")
    store = store_of(lease)
    if taken == "section":
        assert store.section.try_enter()
        del lease
        store.reconciler.leave()
    else:
        locks = {"process": runtime.own.lock, "heartbeats": runtime.own.heartbeats._changed, "lease": lease._lock}
        with locks[taken]:
            del lease
    until(free, "the slot")


@warned
def test_a_finalizer_of_the_users_may_release_in_the_middle_of_a_lock_of_ours() -> None:
    class Client:
        def __init__(self) -> None:
            self.lease = leasecap.acquire("p")

        def __del__(self) -> None:
            self.lease.release()

    client = [Client()]
    with runtime.own.heartbeats._changed, runtime.own.lock:
        client.clear()
    assert free()


@warned
def test_the_chain_keeps_nothing_of_a_lease_that_is_gone() -> None:
    lease = leasecap.acquire("p")
    lease.__enter__()
    assert _ancestry.current() == (lease.reference,)
    reference = lease.reference
    del lease
    until(lambda: reference.ended, "its end")
    assert _ancestry.current() == ()
    for _ in range(20):
        leasecap.acquire("p", timeout=DEADLINE).__enter__().release()
    assert _ancestry.current() == ()
    assert len(_ancestry._within.get()) <= 1


@warned
def test_a_generator_that_is_dropped_half_way_gives_its_slot_back() -> None:
    @leasecap.limited("p")
    def numbers() -> object:
        yield from (1, 2, 3)

    generator = numbers()
    next(generator)  # type: ignore[call-overload]
    assert not free()
    del generator
    assert free()


@pytest.mark.posix("OS locks")
def test_at_the_interpreters_end_there_is_a_warning_and_no_traceback(team: Team) -> None:
    configure(team, limit=3)
    worker = team.start(
        """
import warnings
warnings.simplefilter("default")
module_level = leasecap.acquire("p")
class Keeps:
    pass
cycle = Keeps()
cycle.it, cycle.lease = cycle, leasecap.acquire("p")
"""
    )
    worker.done()
    assert "Traceback" not in worker.errors() and "ignored" not in worker.errors(), worker.errors()
    assert can_be_had(team)


@pytest.mark.posix("forks")
def test_a_forked_child_that_drops_its_copy_gives_nothing_back(team: Team, lock: str) -> None:
    configure(team, lock)
    parent = team.start(
        """
import gc
lease = leasecap.acquire("p")
pid = os.fork()
if pid == 0:
    leasecap.acquire("q", limit=1).release()
    del lease
    gc.collect()
    leasecap.acquire("q").release()
    os._exit(0)
os.waitpid(pid, 0)
say("ALONE", lease.held, bool(lease.lost))
hear()
"""
    )
    assert parent.expect("ALONE") == "True False"
    assert not can_be_had(team)
    assert "dropped" not in parent.errors()


@pytest.mark.posix("OS locks")
def test_the_log_shows_it_without_any_configuration(team: Team) -> None:
    configure(team)
    worker = team.start("leasecap.acquire('p')\nsay('DONE')\nhear()\n")
    worker.expect("DONE")
    until(lambda: "was dropped without a release, so its slot was given back" in worker.errors(), "a line")
    assert can_be_had(team)
