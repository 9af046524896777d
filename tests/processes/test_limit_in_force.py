"""Which limit is in force while config.toml is being edited."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from commands import run
from helper_process import Helper
from insides import file_store
from staged_world import Actor, World

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.schema import UNLIMITED
from leasecap._config.seal import STANDS_STILL
from leasecap._file_store.limit_in_force import LimitInForce
from leasecap._file_store.opening import open_pool
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WHOLE = "[defaults]\nlimit = 50\n\n[pools.p]\nlimit = 1\n"
HALF = WHOLE[: WHOLE.index("[pools")]
HIGHER = {
    "another table's": HALF,
    "unlimited": '[pools.p]\nlimit = "unlimited"\n',
    "a higher one": "[pools.p]\nlimit = 2\n",
    "none at all": "",
}


@pytest.fixture(autouse=True)
def edits_are_whole() -> None:
    """Not here."""


def write(root: Path, text: str) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_text(text)


def only_if_quick(began: float) -> None:
    if time.monotonic() - began >= STANDS_STILL:
        pytest.skip("too slow a machine for this")


# Holds as many slots as it gets at once, and says how many.
GREEDY = """
import sys, time
import leasecap
began, leases = time.monotonic(), []
while time.monotonic() < began + float(sys.argv[1]):
    try:
        leases.append(leasecap.acquire("p", timeout=0.05, borrow=False, limit=9))
    except leasecap.AcquireTimeout:
        pass
print(len(leases))
input()
"""


# -- one process that goes on, and one that starts meanwhile ---------------------------------------------------------


@pytest.mark.parametrize("half", HIGHER.values(), ids=HIGHER)
def test_a_half_written_file_raises_no_limit_for_who_has_the_pool_open(root: Path, half: str) -> None:
    write(root, WHOLE)
    lease = leasecap.acquire("p")
    write(root, half)
    began = time.monotonic()
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", timeout=0.3, limit=9)
    only_if_quick(began)
    write(root, WHOLE)
    assert leasecap.try_acquire("p", limit=9) is None
    lease.release()


@pytest.mark.parametrize("half", HIGHER.values(), ids=HIGHER)
def test_a_half_written_file_raises_no_limit_for_who_starts_meanwhile(root: Path, half: str) -> None:
    write(root, WHOLE)
    leasecap.acquire("p").release()
    write(root, half)
    starter = Helper(GREEDY, 0.6)
    with starter.process:
        assert starter.hear() == "1"
        write(root, WHOLE)
        starter.end()


@pytest.mark.parametrize("limit", ["5", '"unlimited"'])
def test_a_lowered_limit_is_the_last_one_in_force_for_who_starts_meanwhile(root: Path, limit: str) -> None:
    # Lowered by hand, noticed by one process, and then half-written.
    write(root, f"[pools.p]\nlimit = {limit}\n")
    first = leasecap.acquire("p")
    second = leasecap.acquire("p", timeout=30)
    write(root, "[pools.p]\nlimit = 2\n")
    assert leasecap.try_acquire("p") is None
    write(root, HALF)
    starter = Helper(GREEDY, 0.5)
    with starter.process:
        assert starter.hear() == "0"
        starter.end()
    first.release()
    second.release()


def test_without_a_last_limit_one_slot_is_had_at_once_and_the_others_after_a_second(root: Path) -> None:
    write(root, HALF)
    starter = Helper(GREEDY, 0.6)
    with starter.process:
        assert starter.hear() == "1"  # every limit allows so many
        write(root, WHOLE)
        assert leasecap.try_acquire("p") is None
        starter.end()


def test_where_nobody_has_written_a_file_nothing_is_waited_for() -> None:
    began = time.monotonic()
    leases = [leasecap.acquire("p", limit=3) for _ in range(3)]
    only_if_quick(began)
    for lease in leases:
        lease.release()


def test_a_file_that_is_gone_for_a_moment_raises_nothing(root: Path) -> None:
    write(root, WHOLE)
    leasecap.acquire("p").release()
    (root / "config.toml").unlink()  # so some editors do
    starter = Helper(GREEDY, 0.6)
    with starter.process:
        assert starter.hear() == "1"
        starter.end()


def test_a_file_that_goes_on_changing_raises_nothing(root: Path) -> None:
    write(root, WHOLE)
    lease = leasecap.acquire("p")
    waiter = Helper("import leasecap\nleasecap.acquire('p')\nprint('HELD')")
    with waiter.process:
        until_waiting(1)
        for number in range(25):
            written = time.monotonic()
            write(root, HALF + f"# {number}\n")
            time.sleep(0.1)
            only_if_quick(written)
        assert leasecap.status("p").pools[0].in_flight == 1
        write(root, WHOLE)
        lease.release()
        assert waiter.hear() == "HELD"


# -- when it does rise -----------------------------------------------------------------------------------------------


def until_waiting(number: int) -> None:
    end = time.monotonic() + 30
    while leasecap.status("p").pools[0].waiting < number:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("higher", [HIGHER["a higher one"], HIGHER["unlimited"], HALF])
def test_those_who_wait_are_granted_once_the_file_has_stood_still(root: Path, higher: str) -> None:
    write(root, WHOLE)
    lease = leasecap.acquire("p")
    waiter = Helper("import leasecap\nleasecap.acquire('p')\nprint('HELD')\ninput()")
    with waiter.process:
        until_waiting(1)
        began = time.monotonic()
        write(root, higher)
        assert waiter.hear() == "HELD"
        assert STANDS_STILL * 0.9 <= time.monotonic() - began < 6
        waiter.end()
    lease.release()


def test_a_limit_that_was_seen_to_stand_still_counts_at_once_for_others(root: Path) -> None:
    write(root, "[pools.p]\nlimit = 2\n")
    first = leasecap.acquire("p")
    second = leasecap.acquire("p", timeout=30)  # waits for it
    second.release()
    began = time.monotonic()
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0
    only_if_quick(began)
    first.release()


def test_who_tries_once_waits_for_the_end_of_an_edit(root: Path) -> None:
    write(root, WHOLE)
    first = leasecap.acquire("p")
    write(root, "[pools.p]\nlimit = 2\n")
    second = leasecap.try_acquire("p")
    assert second is not None
    second.release()
    first.release()


@pytest.mark.parametrize("limit", ["3", "unlimited"])
@pytest.mark.parametrize("used", [True, False])
def test_what_the_command_writes_counts_at_once(root: Path, limit: str, used: bool) -> None:
    write(root, WHOLE)
    if used:
        leasecap.acquire("p").release()
    assert run("limit", "p", limit).returncode == 0
    assert run("limit", "p", limit).returncode == 0  # once more, which changes nothing
    began = time.monotonic()
    leases = [leasecap.acquire("p", timeout=0) for _ in range(3)]
    only_if_quick(began)
    for lease in leases:
        lease.release()


def test_what_the_command_removes_counts_at_once(root: Path) -> None:
    write(root, "[pools.p]\nlimit = 1\n")
    lease = leasecap.acquire("p")
    assert run("limit", "p", "--unset").returncode == 0
    with pytest.raises(leasecap.ConfigError, match="has no limit"):
        leasecap.acquire("p")
    lease.release()


def test_a_limit_lowered_by_hand_counts_at_once(root: Path) -> None:
    write(root, '[pools.p]\nlimit = "unlimited"\n')
    leases = [leasecap.acquire("p", timeout=30) for _ in range(3)]
    write(root, "[pools.p]\nlimit = 3\n")
    assert leasecap.try_acquire("p") is None
    for lease in leases:
        lease.release()


def test_an_edit_within_one_tick_of_the_clock_is_seen_all_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file system may count time in seconds: then the signature is the one of the half-written file.
    monkeypatch.setattr("leasecap._config.config_file.signature", lambda path: (1,))
    write(root, "[pools.p]\nlimit = 9\n")
    first = leasecap.acquire("p")
    write(root, "[pools.p]\nlimit = 1\n")
    assert leasecap.try_acquire("p", borrow=False) is None
    first.release()


# -- the one in force, step by step ----------------------------------------------------------------------------------


@pytest.fixture
def in_force(root: Path) -> Callable[..., LimitInForce]:
    world = World()
    pool = open_pool(world, str(root), pool_name("p"), "os")
    return lambda left=0.0: LimitInForce(pool.directory, lambda: left)


@pytest.mark.parametrize("last", [1, 4, UNLIMITED, None])
def test_the_last_limit_is_noted_and_read_again(in_force: Callable[..., LimitInForce], last: int | None) -> None:
    before = in_force()
    assert before.configure(last) == before.keep() == last
    after = in_force(left=1.0)
    assert after.configure(None) == after.keep() == last


@pytest.mark.parametrize("text", [b"", b"x", b"-3", b"0", b"\xff" * 16, b"9" * 16])
def test_a_damaged_note_is_no_high_limit(root: Path, in_force: Callable[..., LimitInForce], text: bytes) -> None:
    [pool] = (root / "pools").iterdir()
    (pool / "limit").write_bytes(text)
    found = in_force(left=1.0).configure(UNLIMITED)
    assert found is not None
    assert found <= 1_000_000


def test_nobody_spins_for_a_raise_whose_file_was_broken_meanwhile(root: Path) -> None:
    write(root, "[pools.p]\nlimit = 1\n")
    store = file_store("p")
    leasecap.acquire("p").release()
    opened = runtime.root(str(root))
    write(root, "[pools.p]\nlimit = 2\n")
    store.refresh()
    write(root, "[pools.p\n")
    opened._file._stands_still_at -= 10
    store.refresh()
    assert (store.policy.configured, store.policy.rises_in) == (1, STANDS_STILL)


def test_a_sweep_says_when_the_limit_rises(root: Path) -> None:
    actor = Actor(root)
    actor.store.policy.limit = LimitInForce(actor.store.directory, lambda: 0.7)
    actor.store.policy.configured = actor.store.policy.limit.configure(5)
    assert (actor.store.policy.configured, actor.store.sweeper.sweep().changes_in) == (1, 0.7)
    actor.store.policy.limit = LimitInForce(actor.store.directory, lambda: 0.0)
    actor.store.policy.configured = actor.store.policy.limit.configure(5)
    actor.store.reconciler.transact()
    assert (actor.store.policy.configured, actor.store.sweeper.sweep().changes_in) == (5, math.inf)


def test_a_limit_that_stays_costs_no_look_at_the_note(in_force: Callable[..., LimitInForce]) -> None:
    limit = in_force()
    limit.configure(3)
    limit.keep()
    world: World = limit._directory.world  # type: ignore[attr-defined]
    done: list[str] = []
    world.before = lambda operation, *names: done.append(operation)
    for _ in range(3):
        assert limit.keep() == 3
    assert not done
