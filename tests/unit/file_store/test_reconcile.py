"""What can't be carried out, or has changed since it was found, ends in no endless round and in no slot too many."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from staged_world import Actor

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STOLEN, TRASH
from leasecap._file_store.peers import Peers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest

ROUNDS = 20  # more than any of these takes


def bounded(actor: Actor, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this step of its reconciler is called with; more than a few calls fail."""
    step, calls = getattr(actor.store.reconciler, name), []

    def counted(*arguments: object) -> object:
        calls.append(name)
        assert len(calls) < ROUNDS, "it would go on for ever"
        return step(*arguments)

    monkeypatch.setattr(actor.store.reconciler, name, counted)
    return calls


def test_a_grant_that_cannot_be_taken_back_keeps_nobody_in_the_section(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a process that was stopped with one ticket granted and another queued, while the disk became full."""
    one, stopped, other = (Actor(root, limit=2) for _ in range(3))
    first, second = one.ask(), one.ask()
    granted, queued, waiting = stopped.ask(), stopped.ask(), other.ask()
    one.store.release(first)
    assert one.where(granted) == GRANTED
    look = Peers.look
    monkeypatch.setattr(
        Peers,
        "look",
        lambda peers, ticket, where=QUEUE: "away" if ticket.process == stopped.process else look(peers, ticket, where),
    )
    one.world.failing("rename", errno.ENOSPC, name=PARKED)
    bounded(one, "_work_out", monkeypatch)
    one.store.release(second)
    assert [one.where(entry) for entry in (granted, queued, waiting)] == [GRANTED, QUEUE, GRANTED]
    one.store.sweeper.sweep()
    assert len(one.held()) == 2


def test_a_lease_that_cannot_be_revoked_goes_on_to_count_and_keeps_nobody(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Actor(root, limit=2, kind="directory")
    _, granted_beside, waiting = one.ask(), one.ask(), Actor(root, limit=2, kind="directory").ask()
    pool, robbed = Path(one.store.directory.path), "ab" * 8
    Path(pool, STOLEN, f"{robbed}.known").write_bytes(b"{}")
    Path(pool, LEASES, granted_beside.name, "by").write_text(robbed)
    one.store.policy.configured = 1
    one.world.failing("rename", errno.ENOSPC, name=TRASH)
    bounded(one, "reconcile", monkeypatch)
    one.store.reconciler.transact()
    assert [one.where(entry) for entry in (granted_beside, waiting)] == [LEASES, QUEUE]


def test_one_that_was_taken_for_dead_and_has_its_slot_by_now_counts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees its process, and its heartbeats were late. Another process grants it the slot just before this one,
    which takes it for dead, enters the section."""
    one, other, late, last = (Actor(root, kind="directory") for _ in range(4))
    late.world.identity = late.world.me()._replace(pid_ns="pid:[7]", machine="another", boot="another")
    holder, ticket, waiting = other.ask(), late.ask(), last.ask()
    own = one.ask()
    transact = one.store.reconciler.transact

    def too_late(*arguments: object) -> bool:
        if ticket.name in one.store.peers.dead and one.where(ticket) == QUEUE:
            late.store.entries.beat(ticket)
            other.store.release(holder)
            late.store.entries.acknowledge(ticket)
        return transact(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(one.store.reconciler, "transact", too_late)
    for _ in range(60):
        one.world.clock += 1.0
        one.store.sweeper.sweep()
    assert [one.where(entry) for entry in (ticket, waiting, own)] == [LEASES, QUEUE, QUEUE]
    assert not os.path.exists(one.store.directory.full(f"{GRANTED}/{waiting.name}"))
