from __future__ import annotations

import os
from pathlib import Path

import pytest
from records import RECORD
from staged_world import Actor, World, pool_at

from leasecap import _ancestry
from leasecap._decisions.entry import make_entry, mark_of, process_of
from leasecap._decisions.places import GRANTED, LEASES, QUEUE
from leasecap._file_store.former_program import suspects
from leasecap._file_store.own_process import OwnProcess
from leasecap._liveness.presence import Identity
from leasecap._liveness.record import Child
from leasecap._liveness.verdict import left_by_exec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry
    from leasecap._file_store.own_entry import OwnEntry

pytestmark = pytest.mark.posix("OS locks, and there exec makes another process")

ME = Identity(
    pid=RECORD.pid,
    start=RECORD.start,
    uid=1000,
    boot="b",
    machine="m",
    pid_ns="pid:[1]",
    time_ns="time:[1]",
    sees_processes=True,
)


def test_what_its_own_process_made_goes_by_the_lock_alone() -> None:
    assert left_by_exec(RECORD, ME)


@pytest.mark.parametrize(
    "fact",
    [{"pid": 2}, {"start": 2}, {"boot": "x"}, {"boot": None}, {"pid_ns": "x"}, {"sees_processes": False}],
    ids=str,
)
def test_what_another_process_made_does_not(fact: dict[str, object]) -> None:
    assert not left_by_exec(RECORD, ME._replace(**fact))  # type: ignore[arg-type]


def test_an_unknown_start_never_equals_another_unknown_one() -> None:
    assert not left_by_exec(RECORD._replace(start=None), ME._replace(start=None))


@pytest.mark.parametrize("fact", [{"proof": "pid"}, {"child": Child(5, 6)}, {"local": False}], ids=str)
def test_what_does_not_go_by_the_lock_alone_stays(fact: dict[str, object]) -> None:
    assert not left_by_exec(RECORD._replace(**fact), ME)  # type: ignore[arg-type]


class Program(OwnProcess):
    """What a program of the process ``identity`` has."""

    def __init__(self, identity: Identity) -> None:
        world = World()
        world.identity = identity
        super().__init__(world)


def test_an_id_says_of_which_process_it_is_and_is_no_other_programs() -> None:
    one, next_one = Program(ME), Program(ME)
    assert one.id != next_one.id and one.id[6:] == next_one.id[6:]
    assert len(one.id) == 12 and one.id == one.id
    before = one.id
    one.start()
    assert one.id != before and one.id[6:] == before[6:]


@pytest.mark.parametrize("fact", [{"pid": 2}, {"start": 2}, {"boot": "x"}, {"pid_ns": "x"}], ids=str)
def test_the_ids_of_two_processes_have_nothing_in_common(fact: dict[str, object]) -> None:
    assert Program(ME).id[6:] != Program(ME._replace(**fact)).id[6:]  # type: ignore[arg-type]


def made_by(process: str, number: int) -> Entry:
    return make_entry(token=f"{number:016x}", process=process, order=number, priority=0, limit=None)


def test_names_tell_what_other_programs_of_the_process_may_have_left() -> None:
    own, former, others = "aaaaaa00000f", "bbbbbb00000f", "aaaaaa00000e"
    entries = [made_by(process, number) for number, process in enumerate((own, former, others) * 4)]
    assert {mark_of(entry.name) for entry in entries} == {"00000f", "00000e"}
    snapshot = pool_at(1, entries[:3], entries[3:6], entries[6:9], entries[9:])
    found = suspects(own, snapshot)
    assert len(found) == 4 and {process_of(name) for name in found} == {former}


def programs_at(root: Path, *, limit: int = 1, kind: str = "os") -> tuple[Actor, Actor]:
    """A program and the one that its process became then."""
    former, later = Actor(root, limit=limit, kind=kind), Actor(root, limit=limit, kind=kind)
    former.process, later.process = "aaaaaa00000f", "bbbbbb00000f"
    later.world.loaded_at = lambda: 2**62  # type: ignore[method-assign]
    return former, later


@pytest.fixture
def programs(root: Path) -> tuple[Actor, Actor]:
    """The two, in a pool with one slot."""
    return programs_at(root)


@pytest.fixture
def left(programs: tuple[Actor, Actor]) -> tuple[Actor, OwnEntry]:
    """The later program, and a lease that the former one had."""
    former, later = programs
    lease = former.ask()
    exec_in(former, lease)
    return later, lease


def exec_in(former: Actor, *left: OwnEntry) -> None:
    """The program of ``former`` is no more: all its descriptors are closed."""
    for own_entry in left:
        former.store.entries.close(own_entry)


def test_its_lease_is_removed_and_the_slot_granted_to_who_waits(left: tuple[Actor, OwnEntry]) -> None:
    later, lease = left
    ticket = later.stage()
    assert later.store.section.try_enter()
    later.store.reconciler.transact(lambda: later.store.reconciler.place(ticket, may_queue=True), entered=True)
    assert (later.where(lease), later.where(ticket)) == (None, GRANTED)


def test_its_tickets_are_removed_though_this_program_has_just_granted_one_a_slot(
    programs: tuple[Actor, Actor], root: Path
) -> None:
    former, later = programs
    other = Actor(root)
    held, *tickets = other.ask(), former.ask(), former.ask()
    exec_in(former, *tickets)
    other.store.entries.drop(held)
    ticket = later.stage()
    assert later.store.section.try_enter()
    later.store.reconciler.transact(lambda: later.store.reconciler.place(ticket, may_queue=True), entered=True)
    assert [later.where(former) for former in tickets] == [None, None]
    assert later.where(ticket) == GRANTED


def test_a_call_that_is_granted_its_slot_at_once_looks_once_alone(root: Path) -> None:
    former, later = programs_at(root, limit=4)
    one = former.ask()
    exec_in(former, one)
    later.ask()
    assert later.where(one) is None
    two = former.ask()
    exec_in(former, two)
    later.ask()
    assert later.where(two) == LEASES


def test_nothing_is_read_where_no_entry_has_a_name_of_this_process(programs: tuple[Actor, Actor], root: Path) -> None:
    _, later = programs
    Actor(root).ask()
    done: list[str] = []
    ticket = later.stage()
    later.world.before = lambda operation, *names: done.append(" ".join((operation, *names)))
    later.place(ticket)
    assert later.where(ticket) == QUEUE
    assert not [each for each in done if each.startswith(("read leases", "probe", "stat leases"))], done


def test_a_lease_stays_under_which_this_program_runs(
    left: tuple[Actor, OwnEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    later, lease = left
    pool = later.store.pool
    reference = _ancestry.reference(pool.root, pool.name.directory, lease.entry.token)
    monkeypatch.setenv(_ancestry.ENVIRONMENT, os.pathsep.join(("another", reference)))
    later.ask()
    assert later.where(lease) == LEASES
    monkeypatch.delenv(_ancestry.ENVIRONMENT)
    later.ask()
    assert later.where(lease) is None


def test_a_lease_stays_whose_lock_is_held(programs: tuple[Actor, Actor]) -> None:
    former, later = programs
    lease = former.ask()
    later.ask()
    assert later.where(lease) == LEASES


def test_a_lease_stays_that_was_beaten_since_this_program_was_loaded(programs: tuple[Actor, Actor]) -> None:
    former, later = programs
    lease = former.ask()
    exec_in(former, lease)
    since = later.world.boot_clock()
    later.world.loaded_at = lambda: since  # type: ignore[method-assign]
    assert former.store.beat(lease)
    later.ask()
    assert later.where(lease) == LEASES
    later.world.loaded_at = later.world.boot_clock  # type: ignore[method-assign]
    later.ask()
    assert later.where(lease) is None


@pytest.mark.parametrize("file", ["alive", "info.json"])
def test_a_lease_stays_of_which_something_cannot_be_read(programs: tuple[Actor, Actor], file: str) -> None:
    former, later = programs
    lease = former.ask()
    exec_in(former, lease)
    former.store.directory.overwrite(f"{LEASES}/{lease.name}/{file}", b"?" * 400)
    later.ask()
    assert later.where(lease) == LEASES


def test_without_os_locks_everything_stays(root: Path) -> None:
    former, later = programs_at(root, kind="directory")
    lease = former.ask()
    later.ask()
    assert later.where(lease) == LEASES


def test_on_a_file_system_that_machines_share_everything_stays(left: tuple[Actor, OwnEntry]) -> None:
    later, lease = left
    later.store.observer._pool = later.store.pool._replace(local=False)
    later.ask()
    assert later.where(lease) == LEASES


def test_where_the_lock_cannot_be_told_everything_stays(
    left: tuple[Actor, OwnEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    later, lease = left
    monkeypatch.setattr("leasecap._host.directory.is_locked", lambda fd: None)
    later.ask()
    assert later.where(lease) == LEASES
