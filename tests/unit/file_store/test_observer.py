from __future__ import annotations

import gc
import math
import os
import signal
import threading
from pathlib import Path

import pytest
from dropped import Dropped
from helper_process import Helper, ended_pid, helper
from referee import DEADLINE
from staged_world import Actor

from leasecap._decisions.places import LEASES, QUEUE
from leasecap._file_store import observer as observer_module
from leasecap._host.process import start_of
from leasecap._liveness.record import MAX_BYTES, PENDING, Child, encode_record
from leasecap._liveness.stamp import STAMP_BYTES, decode_stamp, encode_stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry

HOLDER = """
import os, subprocess, sys
from pathlib import Path
from staged_world import Actor
actor = Actor(Path(sys.argv[1]), kind=sys.argv[2])
own_entry = actor.ask()
print(own_entry.name)
"""
DAEMON = [
    # Ends when its stdin, which is the helper's, comes to its end; has the lock, as a command of `leasecap run` has.
    "daemon = subprocess.Popen([sys.executable, '-S', '-c', 'import sys; sys.stdin.read()'], pass_fds=[own_entry.fd])",
    "print(daemon.pid)",
]


@pytest.fixture
def observer(root: Path) -> Actor:
    return Actor(root, limit=9)


def hold(root: Path, *more: str, kind: str = "os") -> Helper:
    return Helper("\n".join((HOLDER, *more, "input()")), root, kind)


def evidence(actor: Actor, own_entry: OwnEntry | str, where: str = LEASES) -> tuple[bool, str]:
    found = actor.store.observer.judge(where, own_entry if isinstance(own_entry, str) else own_entry.name)
    return found.alive, found.evidence


# -- real holders ----------------------------------------------------------------------------------------------------


@pytest.mark.posix("OS locks")
def test_a_holder_lives_by_its_lock_however_long_it_is_stopped(observer: Actor, root: Path) -> None:
    with helper(HOLDER + "input()", root, "os") as holder:
        name = holder.hear()
        holder.process.send_signal(signal.SIGSTOP)
        for _ in range(60):  # looked at often enough to count its heartbeats
            assert evidence(observer, name) == (True, "lock held")
            observer.world.clock += 5
        assert observer.world.clock > 1000 + observer.store.observer.stale_after


@pytest.mark.posix("OS locks")
def test_a_killed_holder_is_dead_at_once_and_before_it_is_waited_for(observer: Actor, root: Path) -> None:
    with helper(HOLDER + "input()", root, "os") as holder:
        name = holder.hear()
        holder.become_a_zombie()
        assert evidence(observer, name) == (False, "process gone")


@pytest.mark.posix("OS locks")
def test_a_daemon_left_behind_does_not_keep_the_slot_though_it_has_the_lock(observer: Actor, root: Path) -> None:
    code = "\n".join(
        (
            HOLDER,
            *DAEMON,
            """
from leasecap._liveness.record import Child
with subprocess.Popen(["/bin/true"]) as command:
    pass
actor.store.entries.rewrite(own_entry, own_entry.record._replace(child=Child(command.pid, 1)))
print("rewritten")
os._exit(0)
""",
        )
    )
    with helper(code, root, "os") as holder:
        name, _, _ = holder.hear(), holder.hear(), holder.hear()
        holder.process.wait()
        assert observer.store.directory.probe(f"{LEASES}/{name}/alive")[0] is True
        assert evidence(observer, name) == (False, "process gone")


@pytest.mark.posix("OS locks")
def test_the_slot_stays_with_the_command_when_its_wrapper_alone_is_killed(observer: Actor, root: Path) -> None:
    # In the moment between the start of the command and the note of its pid: all that speaks for it is the lock.
    code = "\n".join(
        (
            HOLDER,
            *DAEMON,
            """
from leasecap._host.process import start_of
from leasecap._liveness.record import PENDING
actor.store.entries.rewrite(own_entry, own_entry.record._replace(child=PENDING))
print("rewritten")
os.kill(os.getpid(), 9)
""",
        )
    )
    with helper(code, root, "os") as holder:
        name, _, _ = holder.hear(), holder.hear(), holder.hear()
        holder.process.wait()
        assert evidence(observer, name) == (True, "lock held")
        assert holder.process.stdin is not None
        holder.process.stdin.close()
        with open(observer.store.directory.full(f"{LEASES}/{name}/alive")) as file:
            fcntl = pytest.importorskip("fcntl")
            fcntl.flock(file, fcntl.LOCK_SH)  # waits for the command to end
            fcntl.flock(file, fcntl.LOCK_UN)
        assert evidence(observer, name) == (False, "lock free")


def test_a_command_that_closed_what_it_inherited_speaks_for_itself(observer: Actor, root: Path) -> None:
    with helper("input()") as command:
        own_entry = observer.ask(
            change=lambda record: record._replace(pid=ended_pid(), start=1, child=Child(command.pid, 0))
        )
        seen = start_of(command.pid)
        assert seen is not None
        observer.store.entries.rewrite(own_entry, own_entry.record._replace(child=Child(command.pid, seen)))
        observer.store.entries.close(own_entry)
        assert evidence(observer, own_entry) == (True, "process runs")
        command.end()
        assert evidence(observer, own_entry) == (False, "process gone")


def test_a_pid_that_was_given_to_another_process_does_not_keep_the_slot(observer: Actor) -> None:
    with helper("input()") as stranger:
        own_entry = observer.ask(change=lambda record: record._replace(pid=stranger.pid, start=1))
        assert evidence(observer, own_entry) == (False, "process gone")


def test_a_slot_for_another_process_is_held_while_that_runs(observer: Actor) -> None:
    with helper("input()") as agent:
        start = start_of(agent.pid)
        own_entry = observer.ask(change=lambda record: record._replace(pid=agent.pid, start=start, proof="pid"))
        observer.store.entries.close(own_entry)
        for _ in range(10):
            assert evidence(observer, own_entry) == (True, "process runs")
            observer.world.clock += 9
        agent.become_a_zombie()
        assert evidence(observer, own_entry) == (False, "process gone")


@pytest.mark.posix("OS locks")
def test_a_holder_that_can_not_be_seen_is_judged_by_its_lock(observer: Actor) -> None:
    # Another pid namespace: no such pid here, and that says nothing.
    own_entry = observer.ask(change=lambda record: record._replace(pid=ended_pid(), start=1, pid_ns="pid:[1]"))
    assert evidence(observer, own_entry) == (True, "lock held")
    observer.store.entries.close(own_entry)
    assert evidence(observer, own_entry) == (False, "lock free")


def test_a_pending_command_of_a_holder_that_is_gone_is_not_taken_for_gone(root: Path) -> None:
    observer = Actor(root, kind="directory", limit=9)
    own_entry = observer.ask(change=lambda record: record._replace(pid=ended_pid(), start=1, child=PENDING))
    asked: list[str] = []
    observer.world.before = lambda operation, *names: asked.extend(names if operation == "presence" else ())
    assert evidence(observer, own_entry) == (True, "heartbeat")
    assert asked == [str(own_entry.record.pid)]  # pid 0 would mean this process's own group
    observer.store.entries.rewrite(own_entry, own_entry.record._replace(child=None))
    assert evidence(observer, own_entry) == (False, "process gone")


# -- heartbeats, by the observer's own clock ------------------------------------------------------------------------


@pytest.fixture
def unseen(root: Path) -> tuple[Actor, OwnEntry]:
    """A lease that its heartbeat alone speaks for: its holder is on another kernel."""
    observer = Actor(root, kind="directory", limit=9)
    return observer, observer.ask(change=lambda record: record._replace(boot="another", machine="another"))


def look_for(observer: Actor, own_entry: OwnEntry, seconds: int, every: float = 1.0) -> bool:
    alive = evidence(observer, own_entry)[0]
    for _ in range(int(seconds / every)):
        observer.world.clock += every
        alive = evidence(observer, own_entry)[0]
    return alive


def test_a_heartbeat_that_stands_still_for_as_long_as_stale_after_is_dead(unseen: tuple[Actor, OwnEntry]) -> None:
    observer, own_entry = unseen
    assert look_for(observer, own_entry, 29)
    assert not look_for(observer, own_entry, 1)


def test_a_heartbeat_in_between_starts_the_count_again(unseen: tuple[Actor, OwnEntry]) -> None:
    observer, own_entry = unseen
    assert look_for(observer, own_entry, 29)
    observer.store.beat(own_entry)
    assert look_for(observer, own_entry, 29)
    assert not look_for(observer, own_entry, 1)


def test_a_gap_of_more_than_a_heartbeat_between_two_looks_starts_the_count_again(
    unseen: tuple[Actor, OwnEntry],
) -> None:
    # The observer was stopped, or the machine asleep: the holder may not have had a chance to beat either.
    observer, own_entry = unseen
    assert look_for(observer, own_entry, 29)
    observer.world.clock += observer.store.observer.heartbeat + 0.1
    assert look_for(observer, own_entry, 29)
    assert not look_for(observer, own_entry, 1)


def test_no_clock_of_the_writer_counts(unseen: tuple[Actor, OwnEntry]) -> None:
    observer, own_entry = unseen
    assert look_for(observer, own_entry, 20)
    observer.store.directory.overwrite(
        f"{LEASES}/{own_entry.name}/alive", encode_stamp(0)
    )  # its clock was set back: a beat
    assert look_for(observer, own_entry, 29)


def test_two_entries_are_counted_apart(unseen: tuple[Actor, OwnEntry]) -> None:
    observer, first = unseen
    assert look_for(observer, first, 29)
    second = observer.ask(change=lambda record: record._replace(boot="another", machine="another"))
    assert look_for(observer, second, 8)
    assert not look_for(observer, first, 0)


def test_who_is_forgotten_is_counted_anew_and_others_are_not(unseen: tuple[Actor, OwnEntry]) -> None:
    observer, own_entry = unseen
    assert look_for(observer, own_entry, 29)
    observer.store.observer.forget_all_but({own_entry.name})
    assert not look_for(observer, own_entry, 1)
    observer.store.observer.forget_all_but(set())
    observer.world.clock += observer.store.observer.heartbeat + 1
    observer.store.observer.forget_all_but(set())
    assert look_for(observer, own_entry, 0)


def test_nothing_is_kept_of_the_lock_directorys_former_holders(root: Path) -> None:
    # Under contention each look meets another one: kept for ever, they would fill a long-lived process.
    actor = Actor(root, kind="directory")
    observer, directory = actor.store.observer, actor.store.directory
    directory.make("lock.d")
    for number in range(20):
        directory.write(f"lock.d/{number}", b"x")
        observer.judge_record(f"lock.d/{number}")
    actor.world.clock += observer.heartbeat - 1
    observer.judge_record("lock.d/7")
    actor.world.clock += 2
    observer.forget_all_but(set())
    assert list(observer._beats) == ["lock.d/7"]


# -- records ---------------------------------------------------------------------------------------------------------

CORRUPT = {
    "empty": b"",
    "truncated": b'{"version":1,"token":"',
    "from the future": b'{"version":2}',
    "oversized": b" " * (MAX_BYTES + 1),
    "no text": b"\xff" * 100,
}


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("data", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_record_counts_as_held_until_its_lock_is_free_and_its_heartbeat_stale(
    observer: Actor, data: bytes
) -> None:
    own_entry = observer.ask()
    observer.store.directory.replace(f"{LEASES}/{own_entry.name}/info.json", data)
    assert evidence(observer, own_entry) == (True, "lock held")
    observer.store.entries.close(own_entry)
    assert evidence(observer, own_entry) == (True, "corrupt record")
    assert look_for(observer, own_entry, 29)
    assert not look_for(observer, own_entry, 1)


@pytest.mark.posix("OS locks")
def test_a_missing_record_counts_as_held(observer: Actor) -> None:
    own_entry = observer.ask()
    observer.store.directory.unlink(f"{LEASES}/{own_entry.name}/info.json")
    assert evidence(observer, own_entry) == (True, "lock held")


def test_a_record_is_read_again_when_it_has_changed_and_only_then(observer: Actor) -> None:
    own_entry = observer.ask()
    read: list[str] = []
    observer.world.before = lambda operation, *names: read.extend(names if operation == "read" else ())
    for _ in range(3):
        assert observer.store.observer.record(LEASES, own_entry.name) == own_entry.record
    assert len(read) == 1
    observer.store.entries.rewrite(own_entry, own_entry.record._replace(child=Child(5, 6)))
    assert observer.store.observer.record(LEASES, own_entry.name) == own_entry.record
    assert len(read) == 2


def test_a_record_replaced_while_it_is_read_is_read_again(observer: Actor) -> None:
    own_entry = observer.ask()
    first, second = (own_entry.record._replace(child=Child(pid, 6)) for pid in (5, 7))
    path = f"{LEASES}/{own_entry.name}/info.json"
    observer.store.directory.replace(path, encode_record(first))
    observer.world.once("read", lambda: observer.store.directory.replace(path, encode_record(second)))
    assert observer.store.observer.record(LEASES, own_entry.name) in (first, second)
    assert observer.store.observer.record(LEASES, own_entry.name) == second


@pytest.mark.posix("OS locks")
def test_a_holder_that_lives_is_looked_at_in_two_steps(observer: Actor) -> None:
    # `status` looks at a thousand of them.
    own_entry = observer.ask()
    done: list[str] = []
    observer.world.before = lambda operation, *names: done.append(operation)
    assert evidence(observer, own_entry) == (True, "lock held")
    assert done == ["probe", "read", "presence"]


@pytest.mark.posix("OS locks")
def test_a_holder_that_hands_its_lease_over_meanwhile_is_found_alive(observer: Actor) -> None:
    """To a process in a pid namespace that can't be seen into from here."""
    own_entry = observer.ask(change=lambda record: record._replace(pid_ns="pid:[1]"))
    seen = observer.store.observer
    seen._namespaces, seen._namespaces_until = frozenset({"pid:[1]"}), math.inf  # it is there

    def hand_over() -> None:
        record = own_entry.record._replace(pid=7, start=1, proof="pid")
        observer.store.directory.replace(f"{LEASES}/{own_entry.name}/info.json", encode_record(record))
        observer.store.entries.close(own_entry)

    observer.world.once("probe", hand_over)
    assert evidence(observer, own_entry)[0]
    assert own_entry.fd is None


def test_an_entry_that_has_just_moved_is_found_alive(observer: Actor) -> None:
    own_entry = observer.ask()
    observer.store.entries.close(own_entry)
    assert evidence(observer, own_entry, QUEUE) == (True, "vanished")


@pytest.mark.posix("OS locks")
def test_an_entry_that_moves_while_it_is_looked_at_is_found_alive(observer: Actor) -> None:
    own_entry = observer.ask(change=lambda record: record._replace(pid=ended_pid(), start=1))
    observer.store.entries.close(own_entry)
    observer.world.once("probe", lambda: observer.store.entries.remove(LEASES, own_entry.name))
    assert evidence(observer, own_entry) == (True, "vanished")


def test_what_one_thread_forgets_does_not_trip_another_that_looks(observer: Actor) -> None:
    own_entries = [observer.ask() for _ in range(8)]
    for own_entry in own_entries[:2]:
        evidence(observer, own_entry)

    class Interrupted(set[str]):
        """Lets another thread look at an entry that is new to it while the names are gone through."""

        def __contains__(self, name: object) -> bool:
            thread = threading.Thread(target=evidence, args=(observer, own_entries.pop()))
            thread.start()
            thread.join(0.1)  # it may have to wait for us
            return super().__contains__(name)

    observer.store.observer.forget_all_but(Interrupted())


# -- probes ----------------------------------------------------------------------------------------------------------


@pytest.mark.posix("OS locks")
def test_two_probers_at_once_both_find_a_free_lock_free(observer: Actor, root: Path) -> None:
    own_entry = observer.ask()
    observer.store.entries.close(own_entry)
    alive = f"{LEASES}/{own_entry.name}/alive"
    with open(observer.store.directory.full(alive)) as file:  # a prober in the middle of its probe
        fcntl = pytest.importorskip("fcntl")
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert observer.store.directory.probe(alive)[0] is False
    assert observer.store.directory.probe(alive)[0] is False


@pytest.mark.posix("OS locks")
def test_a_probe_that_a_fork_has_copied_keeps_nothing_alive(observer: Actor) -> None:
    # The child's copy of the descriptor is of the same open file: the lock must be given back before it is closed.
    own_entry = observer.ask()
    observer.store.entries.close(own_entry)
    path = observer.store.directory.full(f"{LEASES}/{own_entry.name}/alive")
    code = """
import fcntl, os, sys
from leasecap._host import directory as _directory, file_lock
real = file_lock.fcntl.flock
def flock(fd, how):
    real(fd, how)
    if how & fcntl.LOCK_SH and not os.fork():
        os.write(1, b"forked\\n")  # print may write in two pieces, and the other one in between
        sys.stdin.read()
        os._exit(0)
file_lock.fcntl.flock = flock
found = _directory.Directory(os.path.dirname(sys.argv[1])).probe("alive")[0]
os.write(1, b"%r\\n" % found)
sys.stdin.read()
"""
    with helper(code, path) as prober:
        assert {prober.hear(), prober.hear()} == {"forked", "False"}
        fd = observer.store.directory.open(f"{LEASES}/{own_entry.name}/alive")
        try:
            assert observer.world.lock(fd)
        finally:
            observer.world.close(fd)


def test_a_lock_that_can_not_be_asked_is_unknown(observer: Actor) -> None:
    assert observer.store.directory.probe("no such file")[0] is None
    assert observer.store.directory.probe(LEASES)[0] is None


def test_a_beat_says_what_went_into_it_and_other_bytes_say_nothing() -> None:
    assert decode_stamp(encode_stamp(12, 0, 3.5, 7, 9)) == (12, 0, 3.5, 7, 9)
    # as earlier versions wrote it, and read it from a later one
    assert decode_stamp(encode_stamp(12, 0, 3.5, 7, 9)[:67]) == (12, 0, 3.5, 7, 0)
    assert decode_stamp(encode_stamp(12, 0, 3.5, 7, 9)[:50]) == (12, 0, 3.5, 0, 0)
    for data in (b"", b"1", b"1 2 3", b"x y z", b"\xff \xff", b"-%030x 1 1" % 15**25, b"%016x %016x %15x-" % (1, 1, 1)):
        assert decode_stamp(data) is None


@pytest.mark.parametrize("now", [-(2**63), -(10**18) * 3, -1, 0, 1, 2**63 - 1])
def test_a_beat_has_one_width_whatever_the_clock_says(now: int) -> None:
    # libfaketime moves the boot clock, too. A longer beat would be cut when it is read, and a shorter one written over
    # it would leave its end.
    assert len(encode_stamp(now, now, -1.5, now, now)) == len(encode_stamp(0)) == STAMP_BYTES
    assert decode_stamp(encode_stamp(now, now, -1.5, now, now)) == (now, now, -1.5, now, now)


# -- in the midst of it ----------------------------------------------------------------------------------------------


def test_a_garbage_collection_in_the_midst_of_a_look_may_look_itself(
    observer: Actor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Actor(root, limit=9).ask() for _ in range(2))
    seen = observer.store.observer
    version = observer_module._version

    def collected(found: os.stat_result) -> tuple[int, int]:
        gc.collect()
        return version(found)

    Dropped(lambda: seen.record(LEASES, other.name))
    monkeypatch.setattr(observer_module, "_version", collected)
    looks = threading.Thread(target=seen.record, args=(LEASES, one.name), daemon=True)
    looks.start()
    looks.join(DEADLINE)
    assert not looks.is_alive()
    assert {one.name, other.name} <= seen._records.keys()
