"""One order for all who share a pool, whatever their clocks say."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready
from hostile import under
from staged_world import Actor, World

from leasecap._config.pool_name import pool_name
from leasecap._file_store.layout import ARRIVAL, BOOT, pool_path
from leasecap._host import process
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

    from leasecap._liveness.presence import Identity

OFFSETS = b"""monotonic           -5          200
boottime          1000            7
"""


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (OFFSETS, 1000 * 10**9 + 7),
        (b"boottime -3 500000000\n", -2_500_000_000),
        (b"boottime 0 0\nfuture 1 2 3\n\n", 0),
        (b"monotonic 1 2\n", None),
        (b"boottime x 0\n", None),
        (b"boottime 1\n", None),
        (b"", None),
    ],
)
def test_the_boot_offset_is_read_from_what_the_kernel_says(content: bytes, offset: int | None) -> None:
    assert process.read_boot_offset(content) == offset


def identity(offset: int | None) -> Identity:
    return Effects().me()._replace(boot_offset=offset)


def actor(root: Path, offset: int | None = 0, **options: object) -> Actor:
    world = World()
    world.identity = identity(offset)
    return Actor(root, world=world, **options)  # type: ignore[arg-type]


def description(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(Path(pool_path(str(root), pool_name("p")), "pool.json").read_bytes())
    return found


def write_order(root: Path, order: str | None) -> None:
    changed = {**description(root), "order": order}
    if order is None:
        del changed["order"]
    Path(pool_path(str(root), pool_name("p")), "pool.json").write_text(json.dumps(changed))


def test_an_order_is_the_boot_clock_without_the_namespaces_offset(root: Path) -> None:
    here, there = actor(root), actor(root, 10**15)
    assert description(root)["order"] == BOOT
    before = here.store.order.next()
    moved = there.store.order.next() + 10**15  # its own clock wasn't really moved
    assert before < moved < here.store.order.next()


def test_a_pool_made_by_a_process_without_offsets_is_ordered_by_arrival(root: Path) -> None:
    blind = actor(root, None)
    assert description(root)["order"] == ARRIVAL
    assert actor(root).store.pool.order == ARRIVAL  # for everybody who comes
    orders = [each.store.order.next() for each in (blind, actor(root), blind)]
    assert all(abs(order / 1e9 - time.time()) < 60 for order in orders)


def test_a_pool_between_kernels_is_ordered_by_arrival(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from leasecap._file_store import making
    from leasecap._host.file_system import FileSystem

    monkeypatch.setattr(making, "file_system", lambda path: FileSystem("nfs4", local=False))
    Actor(root)
    assert description(root)["order"] == ARRIVAL


def test_a_pool_that_says_no_order_has_the_boot_clocks(root: Path) -> None:
    Actor(root)
    write_order(root, None)
    assert Actor(root).store.pool.order == BOOT


@pytest.mark.parametrize("order", [BOOT, ARRIVAL])
def test_who_cannot_read_its_offset_goes_behind_all_and_is_not_passed(root: Path, order: str) -> None:
    here = actor(root)
    write_order(root, order)
    here, blind = actor(root), actor(root, None)
    holder = here.ask(order=here.store.order.next())
    queued = [each.ask(order=each.store.order.next()) for each in (blind, here, blind, blind, here)]
    assert sorted(own_entry.name for own_entry in queued) == [own_entry.name for own_entry in queued]
    assert here.store.release(holder)
    assert here.where(queued[0]) == "granted"


@pytest.mark.parametrize("order", [BOOT, ARRIVAL])
def test_calls_without_a_ticket_yet_keep_their_order(root: Path, order: str) -> None:
    actor(root)
    write_order(root, order)
    blind = actor(root, None)
    orders = [blind.store.order.next() for _ in range(5)]
    assert orders == sorted(set(orders))
    assert os.listdir(blind.store.directory.full("staging")) == []


def test_a_planted_order_pushes_nobody_out_of_the_queue(root: Path) -> None:
    blind = actor(root, None)
    Path(blind.store.directory.full("queue"), f"500-{'f' * 16}-{'0' * 16}-{'a' * 12}-0").mkdir()
    own_entry = blind.ask(order=blind.store.order.next())
    assert own_entry.entry.token


def test_a_clock_that_was_set_back_lets_nobody_pass_those_who_wait(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = actor(root, None)
    queue_first = first.ask(order=first.store.order.next()), first.ask(order=first.store.order.next())
    second = actor(root, None)
    monkeypatch.setattr(type(second.store.order), "_stamp", lambda self: 10**9)  # 1970
    assert second.store.order.next() > queue_first[1].entry.order


# -- real time namespaces ---------------------------------------------------------------------------------------------


@pytest.mark.linux("time namespaces")
@pytest.mark.parametrize("offset", [-1000, 1000])
def test_a_time_namespace_goes_in_the_order_of_asking(team: Team, offset: int) -> None:
    offset = max(offset, -int(time.monotonic() / 2))  # no clock may be moved below zero
    configure(team)
    shifted = ("--time", "--boottime", str(offset), "--fork", "--kill-child")
    elsewhere = under(("unshare", *shifted), ("unshare", "-Ur", *shifted))
    holder, first, third = (team.start(HOLD, name) for name in ("holder", "first", "third"))
    second, fourth = (team.start(HOLD, name, under=elsewhere) for name in ("second", "fourth"))
    ready(holder, first, second, third, fourth)
    hold(holder)
    queue(team, first, second, third, fourth)
    waited = {waiter.position: waiter.waited for waiter in team.pool().waiters}
    assert [waited[position] is not None for position in (1, 2, 3, 4)] == [True, False, True, False]
    give_back(holder)
    for worker in (first, second, third, fourth):
        worker.expect("HELD")
        give_back(worker)
    assert team.referee.order() == ["holder", "first", "second", "third", "fourth"]


LEFT = """
import ctypes, errno
if ctypes.CDLL(None, use_errno=True).unshare(0x80):
    say("SKIP", os.strerror(ctypes.get_errno()))
    sys.exit()
with open("/proc/self/timens_offsets", "w") as file:
    file.write("boottime 500 0")
"""


@pytest.mark.linux("time namespaces")
def test_the_offsets_for_children_are_not_taken_for_ones_own(team: Team) -> None:
    code = LEFT + 'from leasecap._host import process\nsay("GOT", process.this_process().boot_offset)\n'
    worker = team.start(code)
    said, _, value = worker.line().partition(" ")
    if said == "SKIP":
        pytest.skip(f"no time namespace is to be had here: {value}")
    assert value == "None"


@pytest.mark.parametrize("order", [BOOT, ARRIVAL])
def test_place_of_a_task_is_that_of_a_call_made_then(root: Path, order: str) -> None:
    here = actor(root)
    write_order(root, order)
    here = actor(root)
    now, places = here.world.wall_clock(), here.store.order
    ages = [3600.0, 60.0, 0.5, None, -60.0]  # in the future: it begins now
    found = [places.next(None if age is None else now - age) for age in ages]
    assert found[0] < found[1] < found[2] < min(found[3:])
    assert abs(found[1] - found[0] - 3540 * 10**9) < 60 * 10**9
    # The second one's began in 2001: before the machine was started, as may be said of an hour ago too.
    asked = [here.ask(order=place) for place in (found[3], places.next(1e9), found[2])]
    assert sorted(asked, key=lambda own_entry: own_entry.name) == [asked[1], asked[2], asked[0]]


def test_who_cannot_read_its_offset_has_no_place_by_its_task(root: Path) -> None:
    here = actor(root)
    blind = actor(root, None)
    here.ask(order=here.store.order.next())
    queued = here.ask(order=here.store.order.next())
    assert blind.store.order.next(blind.world.wall_clock() - 3600) > queued.entry.order
