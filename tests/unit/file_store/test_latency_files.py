"""How long requests took, on disk: what is added is there, whatever stands in the way, and no grant waits for it."""

from __future__ import annotations

import errno
import gc
import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from staged_world import Actor, World, nothing

from leasecap._errors import StoreError
from leasecap._feedback.histogram import histogram
from leasecap._feedback.latency import KEPT, Kind, Row, added, encode
from leasecap._file_store.latency_files import HOUR, LatencyFiles, read_tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._feedback.latency import Table

NOW = 500_000
OPUS = Kind("opus", True)


def table(*first: float, kind: Kind = OPUS) -> Table:
    return {kind: Row(histogram(first), local=False)}


class Clock(World):
    """A world whose wall clock a test sets.

    :ivar hour: since 1970.
    """

    hour = NOW

    def wall_clock(self) -> float:
        return self.hour * HOUR + 1800.0


class Writer:
    """What one process does."""

    def __init__(self, root: Path, kind: str) -> None:
        self.world = Clock()
        self.actor = Actor(root, kind=kind, world=self.world)
        self.files = LatencyFiles(self.world, nullcontext(), self.actor.store.pool)
        self.told: list[str] = []
        self.path = Path(self.actor.store.directory.full("latency"))

    def add(self, *first: float, hour: int = NOW) -> Table | None:
        return self.files.add(hour, table(*first), self.told.append)

    def read(self, hours: int = KEPT) -> dict[int, Table]:
        tables, troubles = read_tables(self.actor.store.pool, hours, self.world.wall_clock())
        assert troubles == ()
        return tables

    def troubles(self) -> tuple[str, ...]:
        return read_tables(self.actor.store.pool, KEPT, self.world.wall_clock())[1]


@pytest.fixture
def writers(root: Path, kind: str) -> tuple[Writer, Writer]:
    return Writer(root, kind), Writer(root, kind)


def test_what_several_add_is_there_by_hour(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    assert one.read() == {}
    assert one.add(1.0) == table(1.0)
    assert other.add(2.0) == added(table(1.0), table(2.0))
    one.add(3.0, hour=NOW - 1)
    assert other.read() == {NOW: added(table(1.0), table(2.0)), NOW - 1: table(3.0)}
    assert other.read(hours=1) == {NOW: added(table(1.0), table(2.0))}


def test_to_add_makes_no_grant_wait(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    assert one.actor.store.section.try_enter()
    assert other.add(1.0) is not None
    one.actor.store.section.leave()


def test_while_one_adds_another_one_cant_and_later_it_can(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    other.add(0.5)
    refused: list[object] = []
    one.world.once("replace", lambda: refused.append(other.add(2.0)), name=f"{NOW}.json")
    one.add(1.0)
    assert refused == [None]
    assert other.add(2.0) is not None
    assert one.read()[NOW][OPUS].first == histogram((0.5, 1.0, 2.0))


@pytest.mark.parametrize("kind", ["directory"], indirect=True)
def test_marks_of_stolen_locks_dont_pile_up(writers: tuple[Writer, Writer]) -> None:
    one, _ = writers
    one.add(1.0)
    for number in range(3):
        (one.path / "stolen" / f"{number:016x}").write_text("")
    one.add(2.0)
    assert os.listdir(one.path / "stolen") == []


@pytest.mark.parametrize("step", ["read", "list", "replace"])
def test_one_that_fails_inside_keeps_nobody_out(writers: tuple[Writer, Writer], step: str) -> None:
    one, other = writers
    one.add(1.0)
    one.world.failing(step, errno.EIO, name="" if step == "list" else f"{NOW}.json")
    with pytest.raises(StoreError):
        one.add(2.0)
    assert other.add(3.0) is not None
    assert other.read()[NOW][OPUS].first == histogram((1.0, 3.0))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cant_be_written_is_an_error_with_path_and_remedy(writers: tuple[Writer, Writer], code: int) -> None:
    one, _ = writers
    one.world.failing("make", code, name="latency")
    one.world.failing("replace", code)
    with pytest.raises(StoreError) as raised:
        one.add(1.0)
    assert "latency" in str(raised.value) and raised.value.remedy


def test_old_hours_go_and_so_do_those_of_a_clock_far_ahead(writers: tuple[Writer, Writer]) -> None:
    one, _ = writers
    kept = (NOW - KEPT, NOW - 1, NOW + KEPT)
    gone = (NOW - KEPT - 1, NOW + KEPT + 1, 3)
    one.add(1.0)
    for hour in (*kept, *gone):
        (one.path / f"{hour}.json").write_bytes(encode(table(1.0)))
    (one.path / f"{gone[0]}.json.0123456789abcdef").write_text("moved aside")
    stray = one.path / "README"
    stray.write_text("a person's")
    one.add(2.0)
    assert sorted(name for name in os.listdir(one.path) if name[0].isdigit()) == sorted(
        f"{hour}.json" for hour in (*kept, NOW)
    )
    assert stray.exists()


def test_a_clock_that_is_set_back_and_forward_loses_nothing_of_two_days(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    one.add(1.0)
    one.world.hour = other.world.hour = NOW - 10
    one.add(2.0, hour=NOW - 10)
    assert set(other.read()) == {NOW, NOW - 10}, "what a clock noted that was ahead is shown"
    one.world.hour = other.world.hour = NOW
    one.add(3.0)
    assert one.read() == {NOW: added(table(1.0), table(3.0)), NOW - 10: table(2.0)}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\x00" * 100, b"[]", b'{"version": 1, "rows": [3]}', b" " * (1 << 21)], ids=range(6)
)
def test_a_corrupt_file_is_told_and_moved_aside(writers: tuple[Writer, Writer], data: bytes) -> None:
    one, other = writers
    one.add(1.0)
    file = one.path / f"{NOW}.json"
    file.write_bytes(data)
    [trouble] = one.troubles()
    assert str(file) in trouble and file.read_bytes() == data, "to read it writes nothing"
    assert other.add(2.0) == table(2.0)
    [aside] = [path for path in one.path.iterdir() if path.name.startswith(f"{NOW}.json.")]
    assert aside.read_bytes() == data
    [message] = other.told
    assert str(file) in message and str(aside) in message
    assert one.read() == {NOW: table(2.0)}


@pytest.mark.posix("pipes and links")
@pytest.mark.parametrize("what", ["directory", "fifo", "link", "unreadable"])
def test_what_is_no_file_is_moved_aside_as_well(writers: tuple[Writer, Writer], what: str) -> None:
    one, _ = writers
    one.add(1.0, hour=NOW - 1)
    file = one.path / f"{NOW}.json"
    if what == "directory":
        file.mkdir()
    elif what == "fifo":
        os.mkfifo(file)
    elif what == "link":
        file.symlink_to("/etc/passwd")
    else:
        file.write_bytes(encode(table(1.0)))
        one.world.failing("read", errno.EACCES, name=file.name)
    assert len(one.troubles()) == 1
    assert one.add(2.0) == table(2.0)
    one.world.before = nothing
    assert len(one.told) == 1 and one.read()[NOW] == table(2.0)


def test_a_file_in_place_of_the_directory_is_an_error_and_stays(writers: tuple[Writer, Writer]) -> None:
    one, _ = writers
    one.path.write_text("a person's")
    with pytest.raises(StoreError, match="latency"):
        one.add(1.0)
    assert len(one.troubles()) == 1
    assert one.path.read_text() == "a person's"


def test_a_later_format_is_left_alone(writers: tuple[Writer, Writer]) -> None:
    one, _ = writers
    one.add(1.0, hour=NOW - 1)
    file = one.path / f"{NOW}.json"
    later = json.dumps({"version": 2, "rows": "as it likes"})
    file.write_text(later)
    with pytest.raises(StoreError, match="format 2") as raised:
        one.add(1.0)
    assert "one version" in str(raised.value)
    assert file.read_text() == later and one.told == []
    assert len(one.troubles()) == 1 and one.add(2.0, hour=NOW - 1) is not None


def test_to_read_one_that_vanishes_meanwhile_is_no_trouble(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    one.add(1.0)
    other.world.once("read", (one.path / f"{NOW}.json").unlink, name=f"{NOW}.json")
    assert other.read() == {}


def test_nothing_stays_open(writers: tuple[Writer, Writer]) -> None:
    one, other = writers
    one.add(1.0)
    gc.collect()  # what earlier tests left in cycles would be closed in between
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for each in range(10):
        one.add(float(each))
        other.world.failing("replace", errno.ENOSPC)
        with pytest.raises(StoreError):
            other.add(1.0)
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before
