"""When a slot that is held for too long is given away, and what its holder learns of it."""

from __future__ import annotations

import asyncio
import errno
import math
import threading
import time
from pathlib import Path

import pytest
from commands import until
from insides import own_entry_of, store_of
from staged_world import Actor

import leasecap
from leasecap import Lease, LeaseLost, _log
from leasecap._decisions.places import GRANTED, LEASES, QUEUE
from leasecap._file_store import agents
from leasecap._file_store.heartbeats import Heartbeats
from leasecap._file_store.store import Store
from leasecap._liveness.max_hold import GRACE
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._liveness.max_hold import Hold

MAX_HOLD, KILL_AFTER = 60.0, 5.0
GIVEN_AWAY = MAX_HOLD + KILL_AFTER + GRACE


# -- who sweeps -------------------------------------------------------------------------------------------------------


@pytest.fixture
def actors(kind: str, root: Path) -> tuple[Actor, Actor]:
    """Two processes in a pool with one slot and ``reclaim = "force"``."""
    found = Actor(root, kind=kind), Actor(root, kind=kind)
    for actor in found:
        actor.store.policy.force = True
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(_log, "sink", messages.append)
    return messages


def held(actor: Actor, *, noted: bool = True, **record: Any) -> OwnEntry:
    """A lease that may be held for `MAX_HOLD`; ``record`` is what else its record says."""
    facts: dict[str, Any] = {"max_hold": MAX_HOLD, "kill_after": KILL_AFTER, **record}
    own_entry = actor.ask(change=lambda found: found._replace(**facts))
    if noted:
        actor.store.entries.note_grant(own_entry)
    return own_entry


def sweep_after(actor: Actor, seconds: float, every: float = 1.0) -> None:
    """Sweep as a waiter does, for so long."""
    actor.store.sweeper.sweep()
    for _ in range(round(seconds / every)):
        actor.world.clock += every
        actor.store.sweeper.sweep()


def test_a_slot_is_given_away_when_time_and_grace_are_over_and_not_before(
    actors: tuple[Actor, Actor], told: list[str]
) -> None:
    one, other = actors
    lease, waiting = held(one), other.ask()
    sweep_after(other, GIVEN_AWAY - 1)
    assert (one.where(lease), one.where(waiting), told) == (LEASES, QUEUE, [])
    sweep_after(other, 1)
    assert (one.where(lease), one.where(waiting)) == (None, GRANTED)
    assert other.woken == [waiting.name]
    assert len(told) == 1
    assert f"pid {lease.record.pid} ('a command'), lease {lease.entry.token} of pool 'p'" in told[0]
    assert "6.0s over its max_hold of 1m00s, was given away" in told[0]
    assert not one.store.beat(lease)
    assert not one.store.release(lease)
    assert one.where(waiting) == GRANTED


def renew(actor: Actor, lease: OwnEntry) -> None:
    """As the agent's next hook does."""
    found = agents.AgentsEntry(lease.entry, lease.record, held=True)
    assert actor.store.reconciler.transact(lambda: agents.renew(actor.store, found, MAX_HOLD, KILL_AFTER))


def no_force(actor: Actor, _: OwnEntry) -> None:
    """As a person does who edits config.toml."""
    actor.store.policy.force = False


@pytest.mark.parametrize("meanwhile", [renew, no_force])
def test_what_changes_before_it_is_given_away_and_after_it_was_seen_to_be_due_counts(
    actors: tuple[Actor, Actor],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[Actor, OwnEntry], None],
) -> None:
    one, other = actors
    lease = held(one)
    other.ask()
    sweep_after(other, GIVEN_AWAY - 1)
    observer = other.store.observer
    look = observer.hold

    def slow_look(name: str) -> Hold | None:
        monkeypatch.setattr(observer, "hold", look)
        found = look(name)
        meanwhile(other, lease)
        return found

    other.world.clock += 1
    monkeypatch.setattr(observer, "hold", slow_look)
    sweep_after(other, 1)
    assert (one.where(lease), told) == (LEASES, [])


def test_without_force_a_slot_is_never_given_away(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    lease = held(one)
    other.ask()
    other.store.policy.force = False
    sweep_after(other, GIVEN_AWAY * 3)
    assert one.where(lease) == LEASES


@pytest.mark.parametrize(
    "foreign",
    [
        {"time_ns": "time:[1]"},
        {"boot": "another", "machine": "another"},
        {"boot": None},
        {"max_hold": None},
    ],
    ids=str,
)
def test_where_its_clock_is_not_ours_or_it_has_no_end_nobody_gives_it_away(
    actors: tuple[Actor, Actor], foreign: dict[str, Any]
) -> None:
    one, other = actors
    lease = held(one, **foreign)
    for _ in range(int(GIVEN_AWAY * 3)):
        other.world.clock += 1
        one.store.beat(lease)  # else this counts as dead in a pool without locks
        other.store.sweeper.sweep()
    assert one.where(lease) == LEASES


def test_the_time_in_which_the_machine_sleeps_does_not_count(
    actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = actors
    lease = held(one)
    for actor in actors:
        awake = actor.world.boot_clock
        monkeypatch.setattr(actor.world, "boot_clock", lambda awake=awake: awake() + 10**15, raising=False)
    sweep_after(other, 1)
    assert one.where(lease) == LEASES
    sweep_after(other, GIVEN_AWAY)
    assert one.where(lease) is None


def test_the_time_of_a_holder_stopped_before_it_noted_its_grant_begins_when_it_is_first_seen(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    lease = held(one, noted=False)
    other.world.clock += GIVEN_AWAY * 3
    sweep_after(other, GIVEN_AWAY - 1)
    assert one.where(lease) == LEASES
    sweep_after(other, 1)
    assert one.where(lease) is None


def test_a_corrupt_record_gives_nothing_away(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    lease = held(one)
    one.store.directory.replace(f"{LEASES}/{lease.name}/info.json", b'{"max_hold": 0.1}')
    for _ in range(int(GIVEN_AWAY * 3)):
        other.world.clock += 1
        one.store.beat(lease)
        other.store.sweeper.sweep()
    assert one.where(lease) == LEASES


def test_a_ticket_and_a_grant_have_no_time_that_could_be_over(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), held(other)
    sweep_after(one, GIVEN_AWAY * 2)
    assert (one.where(first), one.where(waiting)) == (LEASES, QUEUE)
    one.store.release(first)
    assert one.where(waiting) == GRANTED
    one.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


def test_one_that_can_not_be_removed_counts_and_fails_nobody(actors: tuple[Actor, Actor], told: list[str]) -> None:
    one, other = actors
    lease, waiting = held(one), other.ask()
    other.world.clock += GIVEN_AWAY
    other.world.failing("rename", errno.EPERM, name=lease.name)
    other.store.sweeper.sweep()
    assert (one.where(lease), one.where(waiting), told) == (LEASES, QUEUE, [])


def test_one_that_is_released_in_the_last_moment_is_nobodys_loss(actors: tuple[Actor, Actor], told: list[str]) -> None:
    one, other = actors
    lease, waiting = held(one), other.ask()
    other.world.clock += GIVEN_AWAY
    released: list[bool] = []
    other.world.once("rename", lambda: released.append(one.store.release(lease)), name=lease.name)
    other.store.sweeper.sweep()
    assert (released, told) == ([True], [])
    assert (one.where(lease), one.where(waiting)) == (None, GRANTED)


def test_of_two_who_give_it_away_one_succeeds(actors: tuple[Actor, Actor], told: list[str]) -> None:
    one, other = actors
    lease, waiting = held(one), other.ask()
    for actor in actors:
        actor.world.clock += GIVEN_AWAY
    other.world.once("rename", one.store.sweeper.sweep, name=lease.name)
    other.store.sweeper.sweep()
    assert len(told) == 1
    assert one.held() == {waiting.name}


# -- who holds --------------------------------------------------------------------------------------------------------


def configure(root: Path, *lines: str) -> None:
    # No heartbeat comes in time to notice anything: what is noticed is noticed when it is due.
    root.mkdir(mode=0o700, exist_ok=True)
    text = ("[pools.p]", "limit = 1", 'heartbeat = "1h"', 'stale_after = "3h"', *lines)
    (root / "config.toml").write_text("\n".join(text))


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


def test_an_expired_lease_can_be_asked_waited_for_and_awaited_and_still_holds_its_slot(root: Path) -> None:
    configure(root)
    calls: list[Lease] = []
    with leasecap.slot("p", max_hold=60) as early:
        early.check()
        assert not early.expired
        assert repr(early.expired) == "<expired: False>"
    lease = leasecap.acquire("p", max_hold=0.3, on_lost=calls.append)

    async def main() -> None:
        await lease.expired
        await lease.expired  # at once

    asyncio.run(asyncio.wait_for(main(), 60))
    assert lease.expired.wait(60)
    assert (bool(lease.expired), bool(lease.lost), lease.held) == (True, False, True)
    with pytest.raises(LeaseLost, match="held too long") as caught:
        lease.check()
    assert (caught.value.gone, caught.value.max_hold) == (False, 0.3)
    assert "and release it" in str(caught.value)
    assert in_flight() == 1
    lease.release()
    assert in_flight() == 0
    assert not lease.lost
    until(lambda: calls)
    assert calls == [lease]


def test_a_lease_that_is_released_in_time_does_not_expire(root: Path) -> None:
    configure(root, "max_hold = 0.1")
    while True:
        began, calls = time.monotonic(), list[Lease]()
        lease = leasecap.acquire("p", on_lost=calls.append)
        lease.release()
        if time.monotonic() < began + 0.1:  # else this process stood still, and it wasn't in time
            break
    assert not lease.expired.wait(0.3)
    assert calls == []


def test_the_time_is_the_pools_and_the_argument_goes_before_it(root: Path) -> None:
    configure(root, 'max_hold = "1h"')
    for given, expected in ((leasecap.UNSET, 3600), (5, 5), (None, None), (9e9, 9e9), (math.inf, None)):
        with leasecap.slot("p", max_hold=given) as lease:
            assert (lease.hold and lease.hold.max_hold) == expected
            assert leasecap.status("p").pools[0].holders[0].max_hold == expected
            assert leasecap.status("p").pools[0].holders[0].over_max_hold is None

    @leasecap.limited("p", max_hold=0.05)
    def work() -> float | None:
        time.sleep(0.1)
        return leasecap.status("p").pools[0].holders[0].over_max_hold

    assert 0 < (work() or 0) < 60


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5", [5]])
def test_what_is_no_time_is_refused(root: Path, value: object) -> None:
    configure(root)
    with pytest.raises((TypeError, ValueError), match="max_hold"):
        leasecap.acquire("p", max_hold=value)  # type: ignore[arg-type]
    assert in_flight() == 0


def test_a_holder_gives_its_slot_away_and_is_told_once(
    root: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(root, "kill_after = 0", 'reclaim = "force"')
    calls: list[bool] = []

    def on_lost(lease: Lease) -> None:
        calls.append(bool(lease.expired))
        raise ZeroDivisionError  # must not keep the slot

    lease = leasecap.acquire("p", max_hold=0.1, on_lost=on_lost)
    assert lease.lost.wait(60)
    until(lambda: calls)
    assert (calls, lease.held, in_flight()) == ([True], False, 0)
    with pytest.raises(LeaseLost, match=r"held too long .* and was taken") as caught:
        lease.check()
    assert (caught.value.gone, caught.value.max_hold) == (True, 0.1)
    until(lambda: any("was taken" in message for message in told))
    with leasecap.acquire("p", timeout=0) as other:
        with monkeypatch.context() as patch:
            # The heartbeat thread is closing what a release would close.
            patch.setattr(store_of(lease), "release", None)
            lease.release()
        assert (other.held, in_flight()) == (True, 1)


def test_without_force_a_holder_that_runs_keeps_its_slot(root: Path) -> None:
    configure(root, "max_hold = 0.1", "kill_after = 0")
    with leasecap.acquire("p") as lease:
        assert not lease.lost.wait(GRACE + 0.5)
        assert lease.expired.wait(60)


def test_what_the_pool_says_of_giving_away_counts_when_it_is_time_for_that(root: Path) -> None:
    configure(root, "kill_after = 4")
    lease = leasecap.acquire("p", max_hold=0.1)
    configure(root, 'reclaim = "force"')
    assert lease.lost.wait(60)


def test_a_slot_that_can_not_be_given_away_at_once_is_given_away_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(root, "heartbeat = 0.1", "kill_after = 0", 'reclaim = "force"')
    text = (root / "config.toml").read_text()
    (root / "config.toml").write_text(text.replace('heartbeat = "1h"\n', ""))
    end = Store.end
    failed: list[str] = []

    def failing(store: Store, name: str) -> bool:
        if not failed:
            failed.append(name)
            raise OSError(errno.EROFS, "Read-only file system")
        return end(store, name)

    monkeypatch.setattr(Store, "end", failing)
    lease = leasecap.acquire("p", max_hold=0.1)
    assert lease.lost.wait(60)
    assert failed


@pytest.mark.posix("spares, which need OS locks")
def test_a_lease_released_as_it_is_to_be_given_away_stays_a_spare(root: Path) -> None:
    configure(root, 'reclaim = "force"')
    leasecap.acquire("p", max_hold=60).release()
    lease = leasecap.acquire("p", max_hold=60)
    lease.release()
    lease._give_away()
    assert not lease.lost
    with leasecap.acquire("p", timeout=0) as other:
        assert other.liveness_fd is not None


def test_a_release_that_finds_its_slot_given_away_says_why(
    root: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(root)
    monkeypatch.setattr("leasecap._on_lost.HEAR_OUT", 60.0)
    monkeypatch.setattr(Heartbeats, "set_alarm", lambda *_: None)  # as if the process was stopped until now
    calls: list[tuple[bool, bool]] = []
    lease = leasecap.acquire(
        "p", max_hold=0.1, on_lost=lambda lease: calls.append((bool(lease.expired), bool(lease.lost)))
    )
    runtime.own.heartbeats.remove(own_entry_of(lease))
    time.sleep(0.15)
    assert store_of(lease).end(own_entry_of(lease).name)  # a sweeper
    lease.release()
    assert calls == [(True, True)]
    assert any("held for longer than 0.1s, was taken" in message for message in told)


def test_a_lease_that_a_person_released_in_time_has_not_expired(root: Path, told: list[str]) -> None:
    configure(root, 'max_hold = "1h"')
    lease = leasecap.acquire("p")
    assert store_of(lease).end(own_entry_of(lease).name)
    lease.release()
    assert (bool(lease.expired), bool(lease.lost), told) == (False, True, [])
    with pytest.raises(LeaseLost) as caught:
        lease.check()
    assert caught.value.max_hold is None


def test_a_release_ends_no_process_before_its_loss_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The heartbeat thread, which ends with the process, finds the loss; the main thread releases, and is done.
    configure(root)
    lease = leasecap.acquire("p", max_hold=0.01)
    assert lease.expired.wait(60)
    assert store_of(lease).end(own_entry_of(lease).name)
    telling, go_on, told = threading.Event(), threading.Event(), threading.Event()

    def report(message: str) -> None:
        telling.set()
        go_on.wait(60)
        told.set()

    monkeypatch.setattr(_log, "sink", report)
    finder = threading.Thread(target=lease._gone)
    finder.start()
    assert telling.wait(60)
    seen: list[bool] = []

    def release() -> None:
        lease.release()
        seen.append(told.is_set())

    releaser = threading.Thread(target=release)
    releaser.start()
    releaser.join(0.2)
    go_on.set()
    releaser.join()
    finder.join()
    assert seen == [True]


@pytest.mark.parametrize("kill_after", [-1, "soon", True, None, float("inf"), float("nan")])
def test_a_kill_after_that_makes_no_sense_is_refused(kill_after: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="kill_after"):
        leasecap.acquire("p", limit=1, max_hold=5, kill_after=kill_after)


def test_every_acquire_takes_a_kill_after() -> None:
    lease = leasecap.acquire("p", limit=9, max_hold=5, kill_after=2)
    assert lease.hold is not None and lease.hold.kill_after == 2
    lease.release()
    with leasecap.slot("p", limit=9, max_hold=5, kill_after=0) as lease:
        assert lease.hold is not None and lease.hold.kill_after == 0
