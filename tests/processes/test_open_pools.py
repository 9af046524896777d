"""A process with a pool per tenant doesn't run out of descriptors."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from helper_process import helper
from insides import file_store, own_entry_of, store_of
from referee import until

import leasecap
from leasecap._decisions.places import LEASES, STAGING
from leasecap._file_store import open_pools
from leasecap._request import Options
from leasecap._runtime import runtime
from leasecap._steps import Steps

MANY = """
import os, resource, sys, threading
import leasecap
number, limit = int(sys.argv[1]), int(sys.argv[2])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
held = leasecap.acquire("held", limit=1)
released, errors = [], []
def use(first, step):
    try:
        for one in range(first, number, step):
            for _ in range(2):  # the second leaves a spare
                lease = leasecap.acquire(f"p{one}", limit=1)
                lease.release()
                assert not lease.lost
            released.append(lease)
            if one % 50 == 0:
                try:
                    leasecap.acquire("held", limit=1, borrow=False, timeout=0)
                except leasecap.AcquireTimeout as error:
                    released.append(error)  # keeps its frames
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=use, args=(first, int(sys.argv[3]))) for first in range(int(sys.argv[3]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
print(len(os.listdir("/proc/self/fd")), flush=True)
assert held.held
for lease in released[1:4]:  # of pools that were closed since
    if isinstance(lease, leasecap.Lease) and lease.pool != "p0":
        lease.report(402)
        assert leasecap.status(lease.pool).pools[0].feedback.paused, "the report went astray"
with leasecap.slot("p0", limit=1):
    assert leasecap.status("p0").pools[0].in_flight == 1
held.release()
assert not held.lost
child = os.fork()
if child == 0:
    leasecap.acquire("p0", limit=1, timeout=5).release()
    leasecap.acquire("held", limit=1, timeout=5).release()
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_a_thousand_pools_with_few_descriptors(root: Path, threads: int) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counts descriptors in /proc")
    with helper(MANY, 1000, 96, threads) as server:
        said = server.hear()
        assert said
        assert int(said) < 60
        assert server.hear() == "0"
        assert server.process.wait() == 0


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two unused pools may stay open, one of them with a spare."""
    monkeypatch.setattr(open_pools, "_MOST_DESCRIPTORS", 5)


def opened() -> set[str]:
    root = runtime.root(os.environ["LEASECAP_HOME"])
    return {store.pool.name.text for store in root._open.all()}


def use(*pools: str) -> None:
    for pool in pools:
        leasecap.acquire(pool, limit=2).release()


def test_the_pools_used_last_stay_open(root: Path) -> None:
    use("a", "b", "c", "a", "d", "e")
    assert opened() == {"a", "d", "e"}


def test_a_pool_with_a_lease_or_a_ticket_stays_open(root: Path) -> None:
    lease = leasecap.acquire("a", limit=1)
    waiting = threading.Event()
    got: list[leasecap.Lease] = []

    def wait() -> None:
        got.append(leasecap.acquire("a", limit=1, borrow=False, on_wait=lambda found: waiting.set()))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(30)
    use("b", "c", "d", "e")
    assert "a" in opened()
    lease.release()
    thread.join(30)
    use("f", "g", "h")
    assert "a" in opened()  # the thread's lease
    got[0].release()
    assert not (lease.lost or got[0].lost)
    use("i", "j", "k")
    assert "a" not in opened()


def test_a_pool_stays_open_between_the_call_for_a_slot_and_the_ticket(root: Path) -> None:
    """A task may wait for its turn in between."""
    steps = Steps("a", lambda: None, Options(limit=1))
    use("b", "c", "d", "e")
    assert file_store("a") in runtime.root(str(root))._open.all()
    steps.undo()
    use("f", "g", "h")
    assert "a" not in opened()


def test_a_pool_that_owes_a_slot_stays_open(root: Path) -> None:
    lease = leasecap.acquire("a", limit=1)
    lease._give_back(hand_off=False)  # as a task does that ends together with others
    use("b", "c", "d", "e")
    assert "a" in opened()
    store_of(lease).hand_off()
    use("f", "g", "h")
    assert "a" not in opened()


def test_a_pool_stays_open_while_a_thread_is_inside_its_section(root: Path) -> None:
    leasecap.acquire("a", limit=1).release()
    section = file_store("a").section
    assert section.try_enter()
    use("b", "c", "d", "e")
    assert "a" in opened()
    section.leave()
    use("f", "g", "h")
    assert "a" not in opened()
    assert not section.try_enter(), "its descriptors would never be closed again"


def test_a_pool_stays_open_while_something_is_reported_to_it(root: Path) -> None:
    opened_root = runtime.root(str(root))
    with opened_root.using(opened_root.pool("a")) as store:
        use("b", "c", "d", "e")
        assert store in opened_root._open.all()
    use("f", "g", "h")
    assert "a" not in opened()


def test_a_pool_whose_release_failed_is_closed_once_it_has_succeeded(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.a]\nlimit = 1\nheartbeat = 0.05\nstale_after = 3\n")
    lease = leasecap.acquire("a")
    store = store_of(lease)

    def fail(*arguments: object) -> bool:
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as failing:
        for step in ("retire", "drop"):  # the release, and the heartbeats that try it again
            failing.setattr(store.entries, step, fail)
        lease.release()
        use("b", "c", "d", "e")
        assert "a" in opened()
    until(lambda: own_entry_of(lease) not in runtime.own.own_entries, "the release")
    use("f", "g", "h")
    assert "a" not in opened()


def test_a_pool_that_is_closed_leaves_no_spare_behind(root: Path) -> None:
    use("a", "a", "a")
    store = runtime.root(str(root)).store(runtime.root(str(root)).pool("a"))
    staging = Path(store.directory.full(STAGING))
    assert len(os.listdir(staging)) == 1
    use("b", "c", "d", "e")
    assert os.listdir(staging) == []


def test_a_callable_for_the_usage_outlasts_the_closing_of_its_pool(root: Path) -> None:
    def count() -> int:
        return 0

    leasecap.set_usage("a", count)
    use("b", "c", "d", "e")
    assert "a" not in opened()
    store = runtime.root(str(root)).store(runtime.root(str(root)).pool("a"))
    assert store.feedback is not None
    assert store.feedback.terms.count is count
    Path(store.directory.path).rename(root / "gone")
    store = runtime.root(str(root)).store(runtime.root(str(root)).pool("a"))
    assert store.feedback is not None
    assert store.feedback.terms.count is count  # and its being made again
    leasecap.set_usage("a", None)
    use("b", "c", "d", "e")
    store = runtime.root(str(root)).store(runtime.root(str(root)).pool("a"))
    assert store.feedback is not None
    assert store.feedback.terms.count is None


def test_a_lease_that_is_released_late_is_told_of_a_pool_that_was_removed(root: Path) -> None:
    lease = leasecap.acquire("a", limit=1)
    path = Path(store_of(lease).directory.path)
    assert len(os.listdir(path / LEASES)) == 1
    path.rename(root / "gone")
    leasecap.acquire("a", limit=1).release()
    lease.release()
    assert not lease.lost  # it was released where it was, by its descriptor
    assert os.listdir(root / "gone" / LEASES) == []


def test_fewer_spares_are_kept_the_more_pools_are_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_pools, "_most_descriptors", lambda: 126)
    use("a")
    root_ = runtime.root(str(root))
    assert root_.store(root_.pool("a")).entries.most_spares == 16
    use(*(f"p{one}" for one in range(20)))
    assert {store.entries.most_spares for store in root_._open.all()} == {3}
