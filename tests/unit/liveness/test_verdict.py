from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import pytest
from helper_process import ended_pid, helper
from places import PLATFORM
from records import RECORD

from leasecap._host import process as _process
from leasecap._liveness.presence import Identity
from leasecap._liveness.record import Child
from leasecap._liveness.verdict import Facts, Finding, comparable, judge

ME = Identity(pid=1, start=2, uid=0, boot="b", machine="m", pid_ns="pid:[1]", time_ns="time:[1]", sees_processes=True)
WITH_CHILD = RECORD._replace(child=Child(5, 6))
FOR_PID = RECORD._replace(proof="pid")
FACTS = Facts(
    record=RECORD,
    observer=ME,
    local=True,
    lock="unknown",
    holder="unseen",
    child=None,
    unchanged=0.0,
    stale_after=30.0,
)
STALE: dict[str, object] = {"unchanged": 30.0}

# What is known, whether the owner lives, and the word for the evidence. Facts not given: nothing seen, beating.
TABLE: list[tuple[str, dict[str, object], bool, str]] = [
    ("the holder is gone and had no command", {"holder": "gone"}, False, "process gone"),
    ("holder and command are gone", {"record": WITH_CHILD, "holder": "gone", "child": "gone"}, False, "process gone"),
    (
        "a descendant of both still has the lock",
        {"record": WITH_CHILD, "holder": "gone", "child": "gone", "lock": "held"},
        False,
        "process gone",
    ),
    (
        "the wrapper is gone and its command runs without the lock (sudo closes descriptors)",
        {"record": WITH_CHILD, "holder": "gone", "child": "runs", "lock": "free"},
        True,
        "process runs",
    ),
    (
        "the wrapper is gone while it was starting its command, which has the lock",
        {"record": WITH_CHILD, "holder": "gone", "child": "unseen", "lock": "held"},
        True,
        "lock held",
    ),
    (
        "the wrapper is gone while it was starting its command, and nobody has the lock",
        {"record": WITH_CHILD, "holder": "gone", "child": "unseen", "lock": "free"},
        False,
        "lock free",
    ),
    (
        "the wrapper is gone while it was starting its command, and there are no locks",
        {"record": WITH_CHILD, "holder": "gone", "child": "unseen"},
        True,
        "heartbeat",
    ),
    ("the lock is held", {"lock": "held"}, True, "lock held"),
    ("the lock is held and the heartbeat stopped (SIGSTOP)", {"lock": "held", **STALE}, True, "lock held"),
    ("the lock is held under a corrupt record", {"record": None, "lock": "held", **STALE}, True, "lock held"),
    (
        "the lock is held though the boot differs",
        {"record": RECORD._replace(boot="x"), "lock": "held"},
        True,
        "lock held",
    ),
    ("the lock is free", {"lock": "free"}, False, "lock free"),
    ("the lock is free and the holder runs", {"lock": "free", "holder": "runs", **STALE}, True, "process runs"),
    ("the lock is free but the observer's root is shared", {"lock": "free", "local": False}, True, "heartbeat"),
    (
        "the lock is free but the writer's is",
        {"record": RECORD._replace(local=False), "lock": "free"},
        True,
        "heartbeat",
    ),
    ("the lock is free under a corrupt record", {"record": None, "lock": "free"}, True, "corrupt record"),
    (
        "the machine was started anew",
        {"record": RECORD._replace(boot="x"), "lock": "free"},
        False,
        "machine rebooted",
    ),
    (
        "another machine, with a boot of its own",
        {"record": RECORD._replace(boot="x", machine="y")},
        True,
        "heartbeat",
    ),
    (
        "another machine, whose backup this is: no two have this file system",
        {"record": RECORD._replace(boot="x", machine="y"), "one_kernel": True},
        False,
        "machine rebooted",
    ),
    (
        "another boot, without a machine id",
        {"record": RECORD._replace(boot="x", machine=None), "one_kernel": True},
        False,
        "machine rebooted",
    ),
    (
        "a for-pid lease from before the restart of a container without a machine id",
        {"record": FOR_PID._replace(boot="x", machine=None), "observer": ME._replace(machine=None), "one_kernel": True},
        False,
        "machine rebooted",
    ),
    (
        "a container with a boot id of its own, on this kernel",
        {"record": FOR_PID._replace(boot="container x", machine="y"), "one_kernel": True},
        True,
        "process not visible from here",
    ),
    (
        "who asks in a container with a boot id of its own",
        {"record": FOR_PID, "observer": ME._replace(boot="container x", machine="y"), "one_kernel": True},
        True,
        "process not visible from here",
    ),
    (
        "the same machine id on a shared root (cloned images have one id)",
        {"record": RECORD._replace(boot="x"), "local": False},
        True,
        "heartbeat",
    ),
    ("the heartbeat goes on", {"unchanged": 29.9}, True, "heartbeat"),
    ("the heartbeat stopped", STALE, False, "no heartbeat for 30 s"),
    ("the heartbeat stopped and the holder is seen", {"holder": "runs", **STALE}, True, "process runs"),
    ("a corrupt record beats", {"record": None}, True, "corrupt record"),
    ("a corrupt record doesn't beat", {"record": None, **STALE}, False, "no heartbeat for 30 s"),
    ("nothing can be read", {"record": None, "unchanged": None}, True, "unreadable from here"),
    ("the heartbeat can't be read", {"unchanged": None}, True, "unreadable from here"),
    ("nor can the heartbeat of who is gone", {"unchanged": None, "holder": "gone"}, False, "process gone"),
    (
        "a process that is spoken for runs",
        {"record": FOR_PID, "lock": "free", "holder": "runs", **STALE},
        True,
        "process runs",
    ),
    (
        "a process that is spoken for is gone",
        {"record": FOR_PID, "lock": "free", "holder": "gone"},
        False,
        "process gone",
    ),
    (
        "a process that is spoken for can't be seen; nobody locks or beats for it",
        {"record": FOR_PID, "lock": "free", **STALE},
        True,
        "process not visible from here",
    ),
    (
        "a process that is spoken for ran before the machine was started anew",
        {"record": FOR_PID._replace(boot="x"), "lock": "free"},
        False,
        "machine rebooted",
    ),
]


@pytest.mark.parametrize(("facts", "alive", "evidence"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_evidence_decides(facts: dict[str, object], alive: bool, evidence: str) -> None:
    found = judge(FACTS._replace(**facts))  # type: ignore[arg-type]
    assert (found.alive, found.evidence) == (alive, evidence)
    assert found.certain == (not evidence.startswith("no heartbeat"))  # such a process may come back


EVERYTHING = [
    FACTS._replace(record=record, local=local, lock=lock, holder=holder, child=child, unchanged=unchanged)  # type: ignore[arg-type]
    for record, local, lock, holder, child, unchanged in product(
        (None, RECORD, FOR_PID, RECORD._replace(boot="x"), RECORD._replace(boot=None), RECORD._replace(local=False)),
        (True, False),
        ("held", "free", "unknown"),
        ("runs", "gone", "unseen"),
        (None, "runs", "gone", "unseen"),
        (0.0, 30.0, None),
    )
]


def test_whoever_is_seen_running_is_never_dead() -> None:
    for facts in EVERYTHING:
        if "runs" in (facts.holder, facts.child):
            assert judge(facts).alive, facts


def test_whoever_has_the_lock_is_dead_only_when_holder_and_command_are_visibly_gone() -> None:
    for facts in EVERYTHING:
        if facts.lock == "held" and not judge(facts).alive:
            assert facts.record is not None
            assert (facts.holder, facts.child) in (("gone", None), ("gone", "gone")), facts


def test_a_heartbeat_that_goes_on_is_overruled_by_proof_alone() -> None:
    for facts in EVERYTHING:
        if not facts.unchanged and not judge(facts).alive:
            assert facts.record is not None, facts
            assert facts.holder == "gone" or facts.lock == "free" or facts.record.boot == "x", facts


@pytest.mark.parametrize("fact", ["boot", "pid_ns", "time_ns"])
@pytest.mark.parametrize("mine", [None, "other"])
def test_pids_mean_nothing_across_boots_and_namespaces_or_where_these_are_unknown(fact: str, mine: str | None) -> None:
    assert comparable(RECORD, ME)
    observer = ME._replace(**{fact: mine})  # type: ignore[arg-type]
    assert not comparable(RECORD, observer)
    assert not comparable(RECORD._replace(**{fact: None}), ME)  # type: ignore[arg-type]
    assert comparable(RECORD._replace(**{fact: mine}), observer) == (mine is not None)  # type: ignore[arg-type]


def test_pids_mean_nothing_to_who_does_not_see_the_process_table() -> None:
    assert not comparable(RECORD, ME._replace(sees_processes=False))


def test_an_unknown_value_never_equals_another_unknown_one() -> None:
    unknown_boot = FACTS._replace(record=RECORD._replace(boot=None), observer=ME._replace(boot=None), lock="free")
    assert judge(unknown_boot) == Finding(True, "heartbeat")
    rebooted = FACTS._replace(record=RECORD._replace(boot="x"))
    assert not judge(rebooted).alive
    for record, observer in (("x", None), (None, "b")):
        facts = rebooted._replace(record=RECORD._replace(boot=record), observer=ME._replace(boot=observer))
        assert judge(facts) == Finding(True, "heartbeat")
    unknown_machine = rebooted._replace(
        record=RECORD._replace(boot="x", machine=None), observer=ME._replace(machine=None)
    )
    assert judge(unknown_machine) == Finding(True, "heartbeat")


# -- processes as they are -------------------------------------------------------------------------------------------


def test_a_running_process_runs_and_a_zombie_is_gone() -> None:
    with helper("input()") as process:
        start = _process.start_of(process.pid)
        assert start is not None
        assert _process.presence(process.pid, start) == "runs"
        process.become_a_zombie()
        assert _process.presence(process.pid, start) == "gone"
        assert _process.start_of(process.pid) is None


def test_a_process_that_was_waited_for_is_gone() -> None:
    assert _process.presence(ended_pid(), 1) == "gone"


@pytest.mark.skipif(PLATFORM == "linux", reason="/proc tells more")
def test_a_process_that_tells_nothing_of_itself_may_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    def refuse(pid: int) -> object:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)
    assert _process.presence(os.getpid(), 1) == "unseen"


@pytest.mark.skipif(PLATFORM != "darwin", reason="only there it is corrected")
def test_a_start_is_not_what_psutil_corrects_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil 7.1 and later, on macOS: it is moved by what the clock was set since *this* process loaded psutil."""
    import psutil

    before = _process.start_of(os.getpid())
    create_time = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: create_time(self) + 2)
    assert _process.start_of(os.getpid()) == before


def test_all_processes_have_one_name_for_the_boot() -> None:
    with helper("from leasecap._host.process import this_process; print(this_process().boot)") as other:
        assert other.hear() == str(_process.this_process().boot)


def test_another_process_with_the_same_pid_is_told_by_its_start() -> None:
    me = _process.this_process()
    assert me.start is not None
    assert _process.presence(os.getpid(), me.start) == "runs"
    assert _process.presence(os.getpid(), me.start - 1) == "gone"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/stat")
def test_a_process_whose_name_looks_like_a_state_is_read_right(tmp_path: os.PathLike[str]) -> None:
    name = ") Z 1 ("
    os.symlink("/bin/sleep", os.path.join(tmp_path, name))
    with subprocess.Popen([os.path.join(tmp_path, name), "60"]) as process:
        try:
            start = _process.start_of(process.pid)
            assert start is not None
            assert _process.presence(process.pid, start) == "runs"
        finally:
            process.kill()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_somebody_else() -> None:
    me = _process.this_process()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(_process.this_process().pid).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(read, 20)) == pid != me.pid
    os.close(read)
    os.close(write)


@pytest.mark.linux("pid namespaces")
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are a thing of Linux")
def test_a_process_table_of_another_pid_namespace_is_noticed() -> None:
    code = "from leasecap._host.process import this_process; me = this_process(); print(me.sees_processes, me.pid_ns)"
    tried = subprocess.run(
        ["unshare", "--pid", "--fork", sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no new pid namespace here: {tried.stderr.strip()}")
    sees, namespace = tried.stdout.split()
    assert sees == "False"  # /proc is still the one of the outer namespace
    assert namespace != _process.this_process().pid_ns
