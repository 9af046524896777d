"""Versions on one root: they never decide in one pool, and who is too old or too new is told what to restart.

The earlier version is the real one, of format 1, out of this repository's history.
"""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helper_process import helper
from killed_after import KILLED_AFTER
from places import REPOSITORY, WORKERS
from referee import until
from staged_world import Actor, World, as_a_dead_process

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._decisions.places import LEASES
from leasecap._errors import StoreError
from leasecap._file_store import formats, making, opening
from leasecap._file_store.layout import FORMAT, NEW, OLDER, pool_path
from leasecap._file_store.opening import open_pool
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from referee import Team, Worker

EARLIER = "04e6f21"
NAME = pool_name("p")


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a package directory with the last leasecap of format 1."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("needs the repository's history (no .git here)")
    found = subprocess.run(
        ["git", "-C", str(REPOSITORY), "archive", EARLIER, "leasecap"], capture_output=True, check=False
    )
    if found.returncode:
        pytest.skip(f"needs the repository's history: {found.stderr.decode(errors='replace').strip()}")
    path = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(path, filter="data")
    return str(path)


# Does as it is told, a line for each.
OBEY = """
import os, sys, leasecap
from worker import hear, say
try:
    from leasecap._pool import FORMAT  # where the earlier version has it
except ImportError:
    from leasecap._file_store.layout import FORMAT
say("FORMAT", FORMAT)
leases = []
while True:
    word = sys.stdin.readline().strip()
    try:
        if word == "acquire":
            leases.append(leasecap.acquire("p", timeout=0))
            say("HELD", leases[-1].id)
        elif word == "wait":
            leases.append(leasecap.acquire("p"))
            say("HELD", leases[-1].id)
        elif word == "release":
            lease = leases.pop()
            lease.release()
            say("RELEASED", bool(lease.lost))
        elif word == "pause":
            leasecap.report("p", 402, kind="quota")
            say("PAUSED")
        elif word == "stop before the section":
            from leasecap._section import OsSection
            def stop(self, real=OsSection.try_enter):
                OsSection.try_enter = real
                say("STOPPED")
                hear()
                return real(self)
            OsSection.try_enter = stop
            say("READY")
        else:
            break
    except leasecap.LeasecapError as error:
        say(type(error).__name__, str(error).replace("\\n", " "))
"""


def start(team: Team, package: str | None) -> Worker:
    path = os.pathsep.join((package or str(REPOSITORY), str(WORKERS)))
    # -P: else the working directory comes first.
    worker = team.run([sys.executable, "-P", "-c", OBEY], {"PYTHONPATH": path})
    assert worker.expect("FORMAT") == ("1" if package else str(FORMAT))
    return worker


def told(worker: Worker, word: str, answer: str) -> str:
    worker.tell(word)
    return worker.expect(answer)


@pytest.fixture(params=["os", "directory"])
def versions(request: pytest.FixtureRequest, team: Team, earlier: str) -> tuple[Worker, Worker]:
    """A process of the earlier version and one of this, in a pool of one slot."""
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{request.param}"\n')
    return start(team, earlier), start(team, None)


def test_an_earlier_holder_keeps_its_slot_and_the_later_is_told_of_it(versions: tuple[Worker, Worker]) -> None:
    old, new = versions
    told(old, "acquire", "HELD")
    said = told(new, "acquire", "StoreError")
    assert "format 1" in said
    assert f"pid {old.pid} (" in said
    assert "again" in said
    assert told(old, "release", "RELEASED") == "False"
    told(old, "acquire", "HELD")  # it goes on as before
    assert told(old, "release", "RELEASED") == "False"
    told(new, "acquire", "HELD")


@pytest.mark.linux("the earlier version ran nowhere else")
def test_an_earlier_waiter_is_somebody_alive(team: Team, versions: tuple[Worker, Worker], earlier: str) -> None:
    old, new = versions
    waiter = start(team, earlier)
    told(old, "acquire", "HELD")
    waiter.tell("wait")
    queue = Path(pool_path(str(team.root), NAME), "queue")
    until(lambda: len(os.listdir(queue)) == 1, "a ticket")
    said = told(new, "acquire", "StoreError")
    assert f"pid {waiter.pid} (" in said
    assert f"pid {old.pid} (" in said
    told(old, "release", "RELEASED")
    waiter.expect("HELD")
    assert f"pid {waiter.pid} (" in told(new, "acquire", "StoreError")


def test_an_earlier_process_with_the_pool_open_is_told_and_granted_nothing(versions: tuple[Worker, Worker]) -> None:
    old, new = versions
    for _ in range(2):  # the second leaves a spare
        told(old, "acquire", "HELD")
        told(old, "release", "RELEASED")
    told(new, "acquire", "HELD")
    said = told(old, "acquire", "StoreError")
    assert f"has format {FORMAT}, and this leasecap knows format 1" in said
    assert told(new, "release", "RELEASED") == "False"
    assert f"has format {FORMAT}" in told(old, "wait", "StoreError")  # though a slot is free


def test_an_earlier_process_in_the_middle_of_a_call_is_granted_nothing(
    team: Team, earlier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.configure("[pools.p]\nlimit = 1\n")
    old, new = start(team, earlier), start(team, None)
    told(old, "acquire", "HELD")
    told(old, "release", "RELEASED")
    told(old, "stop before the section", "READY")
    told(old, "acquire", "STOPPED")  # it has compared the directories, and is about to enter
    told(new, "acquire", "HELD")
    told(old, "go on", "StoreError")
    assert f"has format {FORMAT}" in told(old, "acquire", "StoreError")
    assert told(new, "release", "RELEASED") == "False"


MOVE_ASIDE = """
import os, sys
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects
from leasecap._config.pool_name import pool_name
from leasecap._file_store.opening import open_pool
from leasecap._file_store.layout import OLDER
def rename(self, old, new, real=Directory.rename):
    real(self, old, new)
    if new.startswith(OLDER):
        os._exit(9)
Directory.rename = rename
open_pool(Effects(), sys.argv[1], pool_name("p"), "auto")
"""


def test_an_earlier_process_is_granted_nothing_in_a_pool_moved_aside(team: Team, earlier: str) -> None:
    team.configure("[pools.p]\nlimit = 1\n")
    old, new = start(team, earlier), start(team, None)
    told(old, "acquire", "HELD")
    told(old, "release", "RELEASED")
    told(old, "stop before the section", "READY")
    told(old, "acquire", "STOPPED")
    path = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-P", "-c", MOVE_ASIDE, str(team.root)], env=path, check=False)
    assert done.returncode == 9
    told(old, "go on", "StoreError")
    told(new, "acquire", "HELD")


@pytest.mark.linux("the earlier version ran nowhere else")
def test_a_killed_earlier_holder_keeps_nobody_out_and_a_pause_is_kept(
    versions: tuple[Worker, Worker], team: Team
) -> None:
    old, new = versions
    told(old, "acquire", "HELD")
    told(old, "pause", "PAUSED")  # a report that nobody has taken up
    old.kill()
    assert "402" in told(new, "acquire", "AcquireTimeout")
    assert leasecap.status("p").pools[0].feedback.paused  # type: ignore[union-attr]
    assert [name for name in os.listdir(team.root / "pools") if name[0] == "."] == []


def test_a_pool_of_this_version_tells_an_earlier_process(versions: tuple[Worker, Worker]) -> None:
    old, new = versions
    told(new, "acquire", "HELD")
    assert f"has format {FORMAT}, and this leasecap knows format 1" in told(old, "acquire", "StoreError")
    assert told(new, "release", "RELEASED") == "False"


def test_many_later_processes_at_once_make_one_pool(team: Team, earlier: str) -> None:
    team.configure("[pools.p]\nlimit = 6\n")
    old = start(team, earlier)
    told(old, "acquire", "HELD")
    told(old, "release", "RELEASED")
    later = [start(team, None) for _ in range(6)]
    for worker in later:
        worker.tell("acquire")
    for worker in later:
        worker.expect("HELD")
    assert len(os.listdir(Path(pool_path(str(team.root), NAME), LEASES))) == 6
    assert f"has format {FORMAT}" in told(old, "acquire", "StoreError")


# -- killed at any step -----------------------------------------------------------------------------------------------


def make_older(root: Path, *, feedback: bool = True) -> Path:
    """A pool as format 1 left it, which nobody is in."""
    open_pool(Effects(), str(root), NAME, "os").directory.close()
    path = Path(pool_path(str(root), NAME))
    (path / "pool.json").write_text('{"format": 1, "name": "p", "identity": "p", "lock": "os"}')
    if feedback:
        (path / "feedback").mkdir()
        (path / "feedback" / "state.json").write_text("what was taught")
        (path / "feedback" / "0000000000000001-0000000000000001").write_text("a report")
        (path / "feedback" / "state.json.0123456789ab").write_text("half made")
    return path


STEPS = f"""{KILLED_AFTER}
from leasecap._host.effects import Effects
from leasecap._config.pool_name import pool_name
from leasecap._file_store.opening import open_pool
open_pool(Effects(), sys.argv[1], pool_name("p"), "auto")
"""


@pytest.mark.parametrize("begun", [False, True])
def test_killed_at_any_step_the_next_one_finishes_it(root: Path, begun: bool) -> None:
    steps = 0
    while True:
        path = make_older(root)
        before = path.stat().st_ino
        if begun:  # by one who was killed when it had moved the pool aside
            path.rename(path.parent / f"{OLDER}{path.name}-{'0' * 16}")
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run([sys.executable, "-c", STEPS, str(root), str(steps)], env=environment, check=False)
        assert done.returncode in (0, 9)
        assert path.exists() or list(path.parent.glob(f"{OLDER}*")), steps
        open_pool(Effects(), str(root), NAME, "auto").directory.close()
        assert path.stat().st_ino != before, steps
        assert json.loads((path / "pool.json").read_text())["format"] == FORMAT
        taught = {file.name: file.read_text() for file in (path / "feedback").iterdir()}
        assert taught == {"state.json": "what was taught", "0000000000000001-0000000000000001": "a report"}, steps
        for left in path.parent.iterdir():
            assert left == path or left.name.startswith((NEW, OLDER)), steps  # those are swept when they are old
        subprocess.run(["rm", "-r", str(path.parent)], check=True)
        if done.returncode == 0:
            break
        steps += 1
    assert steps > 15


def in_the_gap(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do ``then`` once the old pool has been moved aside, and before the new one is in its place."""
    real = Directory.rename

    def rename(self: Directory, old: str, new: str) -> None:
        real(self, old, new)
        if new.startswith(OLDER):
            monkeypatch.setattr(Directory, "rename", real)
            then()

    monkeypatch.setattr(Directory, "rename", rename)


def test_who_comes_while_there_is_no_pool_takes_over_what_was_taught(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_older(root)
    others: list[int] = []

    def come() -> None:
        open_pool(Effects(), str(root), NAME, "auto").directory.close()
        others.append(path.stat().st_ino)

    in_the_gap(monkeypatch, come)
    open_pool(Effects(), str(root), NAME, "auto").directory.close()
    assert others == [path.stat().st_ino]
    assert (path / "feedback" / "state.json").read_text() == "what was taught"
    assert os.listdir(path.parent) == [path.name]


def test_what_is_moved_aside_while_a_pool_is_built_is_taken_over_as_well(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(pool_path(str(root), NAME))
    made = make_older(root.parent / "other")
    real = making.build

    def build(*arguments: Any) -> str:
        new = real(*arguments)
        made.rename(root / "pools" / f"{OLDER}{NAME.directory}-{'0' * 16}")
        return new

    monkeypatch.setattr(opening, "build", build)
    open_pool(Effects(), str(root), NAME, "auto").directory.close()
    assert (path / "feedback" / "state.json").read_text() == "what was taught"
    assert os.listdir(path.parent) == [path.name]


def test_an_earlier_process_that_makes_a_pool_in_the_gap_is_not_passed_over(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_older(root)
    aside = root / "made-by-an-earlier-one"
    in_the_gap(monkeypatch, lambda: aside.rename(path))
    other = root.parent / "other"
    made = make_older(other, feedback=False)
    actor = Actor(other, name="q")  # whoever: a live lease in the pool that is made in the gap
    lease = actor.ask()
    Path(actor.store.directory.full(f"{LEASES}/{lease.name}")).rename(made / LEASES / lease.name)
    made.rename(aside)
    with pytest.raises(StoreError, match=f"in it: pid {os.getpid()} "):
        open_pool(Effects(), str(root), NAME, "auto")
    (path / LEASES / lease.name).rename(actor.store.directory.full(f"{LEASES}/{lease.name}"))
    open_pool(Effects(), str(root), NAME, "auto").directory.close()
    assert (path / "feedback" / "state.json").read_text() == "what was taught"


@pytest.mark.parametrize("taught", [True, False])
def test_a_report_that_comes_while_a_pool_is_replaced_is_taken_over(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, taught: bool
) -> None:
    path = make_older(root, feedback=taught)
    real = formats.close_queue
    late = "0000000000000002-0000000000000002"

    def close_queue(directory: Directory) -> None:
        (path / "feedback").mkdir(exist_ok=True)
        (path / "feedback" / late).write_text("a late report")
        real(directory)

    monkeypatch.setattr(formats, "close_queue", close_queue)
    open_pool(Effects(), str(root), NAME, "auto").directory.close()
    assert (path / "feedback" / late).read_text() == "a late report"
    assert (path / "feedback" / "state.json").exists() == taught


def test_a_lease_that_appears_after_the_queue_was_closed_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A section that can be stolen lets somebody in beside the one that replaces the pool."""
    path = make_older(root)
    actor = Actor(root.parent / "other", name="q")
    lease = actor.ask()
    real = Directory.rename

    def rename(self: Directory, old: str, new: str) -> None:
        real(self, old, new)
        if (old, new) == ("queue", ".queue"):
            Path(actor.store.directory.full(f"{LEASES}/{lease.name}")).rename(path / LEASES / lease.name)

    monkeypatch.setattr(Directory, "rename", rename)
    with pytest.raises(StoreError, match="format 1"):
        open_pool(Effects(), str(root), NAME, "auto")
    assert sorted(os.listdir(path.parent)) == [path.name]
    assert (path / "queue").is_dir()


def test_a_pool_that_cannot_be_moved_aside_is_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_older(root)
    real = Directory.rename

    def rename(self: Directory, old: str, new: str) -> None:
        if new.startswith(OLDER):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(self, old, new)

    monkeypatch.setattr(Directory, "rename", rename)
    with pytest.raises(StoreError, match="input/output"):
        open_pool(Effects(), str(root), NAME, "auto")
    assert (path / "queue").is_dir()
    assert os.listdir(path.parent) == [path.name]


def test_what_was_taught_and_cannot_be_read_keeps_the_pool_as_it_is(root: Path) -> None:
    path = make_older(root)
    (path / "feedback" / "state.json").unlink()
    (path / "feedback" / "state.json").mkdir()
    with pytest.raises(StoreError):
        open_pool(Effects(), str(root), NAME, "auto")
    assert json.loads((path / "pool.json").read_text())["format"] == 1
    assert os.listdir(path.parent) == [path.name]


def test_a_held_lock_of_an_earlier_pool_is_an_error_with_its_holder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_older(root)
    monkeypatch.setattr(formats, "_PAUSE", 0.0)
    effects = Effects()
    directory = effects.directory(str(path))
    fd = directory.open("lock")
    assert effects.lock(fd)
    effects.write_at_start(fd, b"4711      \n")
    with pytest.raises(StoreError, match="by pid 4711"):
        open_pool(effects, str(root), NAME, "auto")
    effects.close(fd)
    directory.close()
    open_pool(effects, str(root), NAME, "auto").directory.close()


def test_a_pool_that_was_replaced_meanwhile_is_left_alone(root: Path) -> None:
    """Who has read an earlier description opens the path once more, and may find the new pool there."""
    actor = Actor(root)
    own_entry = actor.ask()
    before = Path(actor.store.directory.path).stat().st_ino
    formats.replace_older(Effects(), str(root), NAME, "auto")
    assert Path(actor.store.directory.path).stat().st_ino == before
    assert actor.where(own_entry) == LEASES


# -- what is shown, and growth ----------------------------------------------------------------------------------------


def test_status_names_who_is_in_a_pool_of_another_format(root: Path) -> None:
    with leasecap.slot("p", limit=1):
        description = Path(pool_path(str(root), NAME), "pool.json")
        before = description.read_text()
        for version in (1, FORMAT + 1):
            description.write_text(json.dumps({**json.loads(before), "format": version}))
            error = leasecap.status("p").pools[0].error
            assert error is not None
            assert f"has format {version}" in error
            assert f"pid {os.getpid()} (" in error
        description.write_text(before)


def test_a_pool_from_the_future_names_who_is_in_it(root: Path) -> None:
    with leasecap.slot("p", limit=2):
        description = Path(pool_path(str(root), NAME), "pool.json")
        description.write_text(json.dumps({**json.loads(description.read_text()), "format": FORMAT + 1}))
        runtime.close(str(root))
        with pytest.raises(StoreError, match=f"pid {os.getpid()} ") as caught:
            leasecap.acquire("p", limit=2)
        assert "start this process again" in caught.value.remedy


def test_fields_of_a_later_version_are_ignored_everywhere(root: Path) -> None:
    """In the description, a record, a heartbeat and the feedback's state."""
    with leasecap.slot("p", limit=2) as lease:
        leasecap.report("p", 429, retry_after=0.001)
        leasecap.acquire("p", limit=2).release()  # takes it up
        pool = Path(pool_path(str(root), NAME))
        description = json.loads((pool / "pool.json").read_text())
        (pool / "pool.json").write_text(json.dumps({**description, "later": ["x" * 5000]}))
        [entry] = (pool / LEASES).iterdir()
        text = json.dumps({**json.loads((entry / "info.json").read_text()), "later": 1, "version": 9})
        raw = json.loads(text)
        del raw["check"]
        from leasecap._liveness.record import checksum

        raw["check"] = checksum(raw)
        (entry / "info.json").write_text(json.dumps(raw))
        with (entry / "alive").open("ab") as alive:
            alive.write(b" 0123456789abcdef and more")
        state = json.loads((pool / "feedback" / "state.json").read_text())
        (pool / "feedback" / "state.json").write_text(json.dumps({**state, "later": {"x": 1}}))
        runtime.close(str(root))
        found = leasecap.status("p").pools[0]
        assert found.error is None
        [holder] = found.holders
        assert (holder.id, holder.pid, holder.alive) == (lease.id, os.getpid(), True)
        assert holder.held_for is not None
        leasecap.acquire("p", limit=2).release()


def test_a_dead_process_in_an_earlier_pool_counts_for_nobody(root: Path) -> None:
    actor = Actor(root)
    with helper("") as other:
        other.process.wait()
        as_a_dead_process(actor, other.pid)
        lease = actor.ask()
    actor.store.entries.close(lease)
    path = Path(actor.store.directory.path)
    (path / "pool.json").write_text('{"format": 1, "name": "p", "identity": "p", "lock": "os"}')
    opened = open_pool(World(), str(root), NAME, "auto")
    assert opened.directory.list(LEASES) == []
    opened.directory.close()
