"""Machines as they shouldn't be, made for real: each in namespaces of its own, where these are to be had.

Elsewhere: full and read-only disks (`test_disks`), other pid namespaces (`test_faults`), file systems without OS
locks and planted files (`test_opening`), umasks (`test_root`, `test_opening`), any effect that fails
(`test_failing_effects`), clocks before the machine's own boot (`test_early_waits`, `test_observer`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PROGRAM, environment
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready
from hostile import Wrapper, mounted, under

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

FAST = "stale_after = 0.6\nheartbeat = 0.2\n"

POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--securebits=+noroot,+noroot_locked")
"""Root without any of its powers: permissions count."""

PLANTED = "500-0000000000000001-00000000000000aa-0000000000bb-0"


def status_of(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=environment(**env), capture_output=True, text=True, timeout=60, check=False)


# -- disks ----------------------------------------------------------------------------------------------------------


def test_a_run_on_a_disk_that_is_full_at_any_step_fails_with_125_and_nothing_is_counted(tmp_path: Path) -> None:
    root = tmp_path / "mount" / "root"
    root.parent.mkdir()
    program = " ".join(PROGRAM)
    script = f"""
        mkdir -m 700 {root}
        {program} run -p p --limit 1 -- true || exit 9
        for free in 0 1 2 3 4 5 8; do
            rm -f {root.parent}/filler
            cat /dev/zero > {root.parent}/filler 2>/dev/null
            truncate -s $(( $(stat -c %s {root.parent}/filler) - free * 4096 )) {root.parent}/filler
            {program} run -p p --limit 1 -n -- echo ran; echo $?
            {program} run -p p --limit 1 -n -- sh -c 'cat /dev/zero > {root.parent}/more; exit 3' 2>/dev/null; echo $?
            rm -f {root.parent}/more
        done
        rm {root.parent}/filler
        {program} run -p p --limit 1 -n -- echo works again
        {program} status --json | grep in_flight
    """
    done = status_of(
        *mounted(f"mount -t tmpfs -o size=64k none {root.parent}"), "sh", "-c", script, LEASECAP_HOME=str(root)
    )
    *steps, last, counted = done.stdout.splitlines()
    codes = [line for line in steps if line != "ran"]
    assert codes[:2] == ["125", "125"], done
    assert codes[-2:] == ["0", "3"], done
    # Where the command could run, its status stands, though it filled the disk itself.
    assert set(zip(codes[::2], codes[1::2], strict=True)) <= {("125", "125"), ("0", "3")}, done
    assert steps.count("ran") == codes.count("0")
    assert "free some space" in done.stderr
    assert last == "works again"
    assert '"in_flight": 0' in counted


def test_a_disk_that_fails_under_a_command_leaves_it_its_status_and_is_reported(tmp_path: Path) -> None:
    image, place = tmp_path / "image", tmp_path / "mount"
    place.mkdir()
    program = " ".join(PROGRAM)
    try:
        made = status_of("sh", "-c", f"truncate -s 4M {image} && mkfs.ext4 -q {image}")
    except FileNotFoundError:
        pytest.skip("needs mkfs.ext4(8)")
    disk = mounted(f"mount -o loop,errors=remount-ro {image} {place} && mkdir -pm 700 {place}/root", as_root=True)
    fail = f"echo 1 > /sys/fs/ext4/$(basename $(findmnt -no SOURCE {place}))/trigger_fs_error"
    script = f"""
        {program} run -p p --limit 1 -- sh -c '{fail}; exit 3'; echo $?
        {program} run -p p --limit 1 -- echo never; echo $?
        {program} status > /dev/null; echo $?
    """
    done = status_of(*disk, "sh", "-c", script, LEASECAP_HOME=f"{place}/root")
    if made.returncode or "trigger_fs_error" in done.stderr:
        pytest.skip(f"no disk can be made to fail here: {made.stderr}{done.stderr}")
    assert done.stdout.splitlines() == ["3", "125", "0"], done
    assert "could not be released" in done.stderr
    assert "mount it writable" in done.stderr


def test_a_release_on_a_disk_that_turned_read_only_is_tried_again_while_its_process_lives(root: Path) -> None:
    root.mkdir(mode=0o700)
    # A file that is open for writing, as a lease's OS lock is, keeps a mount from being made read-only.
    (root / "config.toml").write_text('[pools.p]\nlimit = 1\nlock = "directory"\n' + FAST)
    code = f"""
import leasecap, logging, subprocess, time
logging.basicConfig()
def mount(how): subprocess.run(["mount", "-o", "remount,bind," + how, {str(root)!r}], check=True)
lease = leasecap.acquire("p")
mount("ro")
lease.release()
assert leasecap.status("p").pools[0].in_flight == 1
mount("rw")
end = time.monotonic() + 30
while leasecap.status("p").pools[0].in_flight and time.monotonic() < end:
    time.sleep(0.01)
assert leasecap.try_acquire("p") is not None
print("again")
"""
    done = status_of(*mounted(f"mount --bind {root} {root}"), sys.executable, "-c", code)
    assert done.stdout == "again\n", done
    assert done.stderr.count("could not be released") == 1


# -- what is seen of others -------------------------------------------------------------------------------------------


@pytest.mark.linux("/proc")
@pytest.mark.parametrize("blind", ["holder", "observer", "both"])
def test_where_proc_is_hidden_a_live_holder_is_kept_and_a_dead_one_is_found_out(team: Team, blind: str) -> None:
    configure(team, more=FAST)
    hidden = mounted("mount -t tmpfs none /proc")
    holder = team.start(HOLD, "holder", under=hidden if blind != "observer" else ())
    waiter = team.start(HOLD, "waiter", 1.5, under=hidden if blind != "holder" else ())
    last = team.start(HOLD, "last", under=hidden if blind != "holder" else ())
    ready(holder, waiter, last)
    hold(holder)
    holder.stop()  # not even a heartbeat: its lock alone speaks for it
    waiter.tell()
    waiter.expect("TIMEOUT")
    queue(team, last)
    holder.kill()
    last.expect("HELD")
    give_back(last)
    team.assert_idle()


@pytest.mark.linux("/proc")
def test_where_only_ones_own_processes_are_seen_a_stopped_holder_is_kept_and_a_killed_one_reaped(team: Team) -> None:
    configure(team, more=FAST)
    # The group 0 may see all.
    nobody = under((*POWERLESS, "--regid=65534", "--clear-groups"))
    hiding = (*mounted("mount -t proc -o hidepid=2 proc /proc", as_root=True), *nobody)
    assert subprocess.run([*hiding, "test", "-e", "/proc/1"], check=False).returncode == 1
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter", 1.5, under=hiding)
    last = team.start(HOLD, "last", under=hiding)
    ready(holder, waiter, last)
    hold(holder)
    holder.stop()
    waiter.tell()
    waiter.expect("TIMEOUT")
    queue(team, last)
    holder.kill()
    last.expect("HELD")
    give_back(last)


BESIDE_EACH_OTHER = """
import subprocess
holder = subprocess.Popen(
    [sys.executable, "-c", "import leasecap; lease = leasecap.acquire('p'); print('held', flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
holder.stdout.readline()
say("GOT", leasecap.try_acquire("p") is not None)
holder.kill()
holder.wait()
say("GOT", leasecap.try_acquire("p") is not None)
"""


def test_where_proc_tells_of_another_pid_namespace_it_is_not_believed(team: Team) -> None:
    configure(team)
    # It has a process with the holder's pid, or none: in either case not this one.
    worker = team.start(BESIDE_EACH_OTHER, under=under(("unshare", "-Urpf", "--kill-child")))
    assert [worker.expect("GOT"), worker.expect("GOT")] == ["False", "True"]
    worker.done()


# -- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.linux("time namespaces")
@pytest.mark.parametrize("where", ["holder", "observer"])
def test_another_time_namespace_takes_nothing_from_a_live_holder_and_keeps_nothing_for_a_dead_one(
    team: Team, where: str
) -> None:
    configure(team, more=FAST)
    shifted = ("--time", "--boottime", "1000000", "--monotonic", "500000", "--fork", "--kill-child")
    elsewhere = under(("unshare", "-Ur", *shifted), ("unshare", *shifted))
    holder = team.start(HOLD, "holder", under=elsewhere if where == "holder" else ())
    there = elsewhere if where == "observer" else ()
    waiter, last = team.start(HOLD, "waiter", 1.5, under=there), team.start(HOLD, "last", under=there)
    ready(holder, waiter, last)
    hold(holder)
    waiter.tell()
    waiter.expect("TIMEOUT")
    assert next((found.alive, found.evidence) for found in team.pool().holders)[0]
    queue(team, last)
    holder.kill()
    last.expect("HELD")
    give_back(last)


@pytest.mark.parametrize(
    ("holders", "waiters"),
    [("-1d", "+1d"), ("+1d", "-1d"), ("-100y all", "+1d"), ("+1d all", "-100y all")],
)
def test_no_clock_that_is_moved_moves_the_cap(team: Team, holders: str, waiters: str) -> None:
    configure(team, more=FAST)
    holder = team.start(HOLD, "holder", under=moved(holders))
    last = team.start(HOLD, "last", under=moved(waiters))
    ready(holder, last)
    hold(holder)
    holder.stop()
    queue(team, last)
    time.sleep(1.0)  # longer than stale_after, and nothing may happen in it
    assert (team.pool().in_flight, team.pool().waiting) == (1, 1)
    holder.kill()
    last.expect("HELD")
    give_back(last)
    team.assert_idle()


def moved(clocks: str) -> Wrapper:
    """Run a command with its wall clock moved, or with all clocks: then those of the kernel are as far from 1970.

    A Python that waits can only stand the latter before 1970, where its clocks are negative: libfaketime moves a clock
    and not the time until which a thread waits by it.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("needs libfaketime (apt-get install faketime)")
    by, _, every = clocks.partition(" ")
    keep = "0" if every else "1"
    return ("env", f"LD_PRELOAD={found[0]}", f"FAKETIME={by}", f"FAKETIME_DONT_FAKE_MONOTONIC={keep}")


# -- permissions ------------------------------------------------------------------------------------------------------


def the_lease(team: Team) -> Path:
    [entry] = Path(team.pool().path, "leases").iterdir()
    return entry


def tries(team: Team, number: int = 2) -> list[str]:
    """What a powerless process gets of so many slots, one beside the other."""
    code = """
held = []
for _ in range(int(sys.argv[1])):
    try:
        held.append(leasecap.try_acquire("p"))
        say("GOT", held[-1] is not None)
    except leasecap.LeasecapError as error:
        say("ERROR", error)
"""
    worker = team.start(code, number, under=under(POWERLESS))
    said = [worker.line() for _ in range(number)]
    worker.done()
    return said


def test_a_dead_lease_that_may_not_be_removed_counts_and_fails_nobody(team: Team) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a directory to somebody else")
    configure(team, limit=2)
    dead = team.start(HOLD, "dead")
    ready(dead)
    hold(dead)
    dead.kill()
    entry = the_lease(team)
    entry.chmod(0o500)
    os.chown(entry, 65534, 65534)
    assert tries(team) == ["GOT True", "GOT False"]
    assert team.leasecap("status").wait() == 0
    os.chown(entry, 0, 0)
    entry.chmod(0o700)
    assert tries(team) == ["GOT True", "GOT True"]


def test_a_dead_lease_that_is_immutable_counts_and_fails_nobody(team: Team) -> None:
    configure(team, limit=2)
    dead = team.start(HOLD, "dead")
    ready(dead)
    hold(dead)
    dead.kill()
    entry = the_lease(team)
    made = subprocess.run(["chattr", "+i", str(entry)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"nothing can be made immutable here: {made.stderr.strip()}")
    try:
        assert tries(team) == ["GOT True", "GOT False"]
        assert team.leasecap("status").wait() == 0
    finally:
        subprocess.run(["chattr", "-i", str(entry)], check=True)
    assert tries(team) == ["GOT True", "GOT True"]


def test_what_another_user_has_planted_counts_and_fails_nobody(team: Team) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files to somebody else")
    configure(team, limit=3)
    assert can_be_had(team)
    for place in ("leases", "queue", "staging", "trash"):
        planted = Path(team.pool().path, place, PLANTED)
        planted.mkdir()
        (planted / "info.json").write_text("{}")
        for path in (planted / "info.json", planted):
            os.chown(path, 65534, 65534)
            path.chmod(0)
    # One for the lease. The ticket at the head can't be moved, and is passed over.
    assert tries(team, 3) == ["GOT True", "GOT True", "GOT False"]
    assert team.leasecap("status").wait() == 0


@pytest.mark.parametrize("umask", ["000", "077"])
def test_whatever_the_umask_all_is_the_owners_alone(team: Team, umask: str) -> None:
    configure(team)
    with_umask = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")
    holder, waiter = (team.start(HOLD, name, under=with_umask) for name in ("holder", "waiter"))
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    pool = Path(team.pool().path)
    paths = [pool, *pool.rglob("*"), *team.root.glob("wake/*")]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o700, 0o600}
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)


def test_a_umask_that_leaves_nothing_to_the_owner_is_an_error_that_says_where(team: Team) -> None:
    configure(team)
    for _ in range(2):
        worker = team.run(
            ["sh", "-c", 'umask 777; exec "$@"', "sh", *under(POWERLESS), *PROGRAM, "run", "-p", "p", "true"]
        )
        assert worker.wait() == 125
        assert "permission denied" in worker.errors() and str(team.root) in worker.errors()
    assert can_be_had(team)


# -- nothing left to be had -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipes", [True, False])
def test_without_inotify_instances_waiting_works(team: Team, pipes: bool) -> None:
    configure(team)
    if not pipes:
        team.without_pipes()
    without = under(("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh"))
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter", under=without)
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert not waiter.errors()
    team.assert_idle()


NO_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
def free(number):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    probe = os.open("/", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + number, most))
if sys.argv[1] == "used before":
    leasecap.acquire("p").release()
for number in range(12):
    free(number)
    try:
        lease = leasecap.try_acquire("p")
    except leasecap.StoreError as error:
        found = str(error)
    else:
        lease.release()
        found = "works"
    free(100)
    assert found == "works" or "ulimit -n" in found, found
    left = {place: os.listdir(leasecap.status("p").pools[0].path + "/" + place) for place in ("leases", "queue")} \\
        if leasecap.status("p").pools[0].lock else {}
    assert not any(left.values()), left
    say("FREE", number, found.split()[0])
leasecap.acquire("p").release()
say("AGAIN")
"""


@pytest.mark.parametrize("when", ["at once", "used before"])
def test_a_process_out_of_file_descriptors_is_told_so_and_leaves_nothing_behind(team: Team, when: str) -> None:
    configure(team)
    worker = team.start(NO_FILES, when)
    found = [worker.expect("FREE") for _ in range(12)]
    assert not found[0].endswith("works")
    assert found[-1].endswith("works")
    worker.expect("AGAIN")
    worker.done()
    team.assert_idle()


def test_a_process_that_may_start_no_thread_acquires_waits_and_releases_all_the_same(team: Team) -> None:
    configure(team)
    no_threads = """
import threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""
    holder, waiter = team.start(no_threads + HOLD, "holder"), team.start(no_threads + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert "no heartbeats" in holder.errors()
    team.assert_idle()
