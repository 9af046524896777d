from __future__ import annotations

import errno
import gc
import os
import shutil
from functools import partial
from pathlib import Path

import no_pipes
import pytest
from helper_process import helper
from planted import PLANTED

from leasecap._file_store.wake_places import put_file
from leasecap._host import directory as _directory
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects
from leasecap._host.file_lock import NO_OS_LOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(params=[True, False], ids=["by descriptor", "by path"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, on a platform with and on one without names relative to a descriptor."""
    if request.param and not _directory._HAS_DIR_FD:
        pytest.skip("no names relative to a descriptor on this platform")
    monkeypatch.setattr(_directory, "_HAS_DIR_FD", request.param)
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def directory(place: Path) -> Directory:
    return Directory(str(place))


USES: dict[str, Callable[[Directory], object]] = {
    "read": lambda directory: directory.read("it", 10),
    "write": lambda directory: directory.write("it", b"x"),
    "overwrite": lambda directory: directory.overwrite("it", b"x"),
    "open": lambda directory: directory.open("it"),
    "open to create": lambda directory: directory.open("it", create=True),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_is_planted_in_place_of_a_file_is_refused_at_once_and_its_target_untouched(
    place: Path, directory: Directory, plant: Callable[[Path], object], use: Callable[[Directory], object]
) -> None:
    plant(place / "it")
    gc.collect()  # what earlier tests left in cycles would be closed in between
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(OSError, match=r".") as caught:
        use(directory)
    assert caught.value.errno in {
        errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EISDIR, errno.EEXIST, errno.EOPNOTSUPP
    }  # fmt: skip
    target = place.parent / "target"
    assert not target.exists() or target.read_bytes() == b"precious"
    assert not before or len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_nobody_can_say_who_locks_what_is_no_file(
    place: Path, directory: Directory, plant: Callable[[Path], object]
) -> None:
    plant(place / "it")
    assert directory.probe("it")[0] is None


@pytest.mark.parametrize("plant", [name for name in PLANTED if name != "a directory"])
def test_what_is_planted_in_place_of_a_directory_is_refused(place: Path, plant: str) -> None:
    PLANTED[plant](place / "it")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        Directory(str(place / "it"))


def test_a_symlink_to_a_directory_is_refused(place: Path, directory: Directory) -> None:
    (place / "real").mkdir()
    (place / "it").symlink_to("real")
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        Directory(str(place / "it"))
    if _directory._HAS_DIR_FD:
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            directory.list("it")


def test_the_directory_that_was_opened_is_the_one_that_is_used(tmp_path: Path) -> None:
    if not _directory._HAS_DIR_FD:
        pytest.skip("no names relative to a descriptor on this platform")
    place, moved = tmp_path / "place", tmp_path / "moved"
    place.mkdir()
    directory = Directory(str(place))
    place.rename(moved)
    place.mkdir()  # an impostor
    directory.make("d")
    directory.write("f", b"1")
    directory.replace("f", b"2")
    directory.overwrite("f", b"3")
    directory.rename("f", "d/f")
    assert directory.read("d/f", 9) == b"3"
    assert directory.list("d") == ["f"]
    assert directory.probe("d/f")[0] is False
    directory.unlink("d/f")
    directory.rmdir("d")
    assert os.listdir(moved) == []
    assert os.listdir(place) == []


def test_files_and_directories_are_the_owners_alone(place: Path, directory: Directory) -> None:
    before = os.umask(0)
    try:
        directory.make("d")
        directory.write("f", b"")
        os.close(directory.open("g", create=True))
        directory.replace("h", b"")
    finally:
        os.umask(before)
    assert {name: (place / name).stat().st_mode & 0o777 for name in "dfgh"} == {
        "d": 0o700,
        "f": 0o600,
        "g": 0o600,
        "h": 0o600,
    }


def test_a_new_file_never_takes_the_place_of_an_old_one(directory: Directory) -> None:
    directory.write("f", b"old")
    with pytest.raises(FileExistsError):
        directory.write("f", b"new")
    assert directory.read("f", 9) == b"old"


def test_a_file_is_replaced_whole_or_not_at_all(
    place: Path, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.replace("f", b"old")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "write", full)
        directory.replace("f", b"new")
    assert directory.read("f", 9) == b"old"
    assert os.listdir(place) == ["f"]
    directory.replace("f", b"new")
    assert directory.read("f", 9) == b"new"


def test_what_is_written_in_pieces_is_written_whole(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    directory.write("f", b"0123456789")
    fd = directory.open("f")
    Effects().write_at_start(fd, b"abcd")
    Effects().write_at_start(fd, b"efg")
    os.close(fd)
    assert directory.read("f", 99) == b"efgd456789"
    assert directory.read("f", 4) == b"efgd"


def test_a_directory_is_closed_once_and_for_all(place: Path, directory: Directory) -> None:
    directory.close()
    directory.close()  # its number may be somebody else's by now
    shutil.rmtree(place)
    with pytest.raises(FileNotFoundError):
        directory.list("d")


@pytest.mark.posix("OS locks")
def test_one_of_two_descriptors_has_the_lock_until_it_is_unlocked_or_closed(directory: Directory) -> None:
    effects = Effects()
    one, other = directory.open("f", create=True), directory.open("f")
    assert effects.lock(one)
    assert effects.lock(one)
    assert not effects.lock(other)
    assert directory.probe("f")[0] is True
    effects.unlock(one)
    assert directory.probe("f")[0] is False
    assert effects.lock(other)
    effects.close(other)
    assert effects.lock(one)
    effects.close(one)


@pytest.mark.posix("OS locks")
def test_a_probe_says_what_stands_in_the_file_whether_it_is_locked_or_not(directory: Directory) -> None:
    effects = Effects()
    directory.write("f", b"0123456789")
    assert directory.probe("f", 4) == (False, b"0123")
    fd = directory.open("f")
    assert effects.lock(fd)
    assert directory.probe("f", 99) == (True, b"0123456789")
    effects.close(fd)
    assert directory.probe("no such file", 4) == (None, b"")


@pytest.mark.posix("what is being read can't be replaced there")
def test_a_file_is_read_with_the_stat_of_what_was_read(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.write("f", b"one")
    before = directory.stat("f")
    read = os.read

    def replaced_meanwhile(fd: int, limit: int) -> bytes:
        monkeypatch.undo()
        directory.replace("f", b"two")
        return read(fd, limit)

    monkeypatch.setattr(os, "read", replaced_meanwhile)
    data, found = directory.read_and_stat("f", 99)
    assert (data, found.st_ino) == (b"one", before.st_ino)
    assert directory.read_and_stat("f", 99)[0] == b"two"


@pytest.mark.posix("OS locks")
def test_a_probe_takes_nothing_away_from_who_locks_next(directory: Directory) -> None:
    effects = Effects()
    fd = directory.open("f", create=True)
    assert directory.probe("f")[0] is False
    assert effects.lock(fd)
    effects.close(fd)


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("error", sorted(NO_OS_LOCKS))
def test_a_file_system_without_locks_is_an_error_and_never_a_lock(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    fd = directory.open("f", create=True)

    def flock(fd: int, how: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(OSError, match=r".") as caught:
        Effects().lock(fd)
    assert caught.value.errno == error
    os.write(fd, b"beat")
    assert directory.probe("f", 9) == (None, b"beat")
    os.close(fd)


def test_tokens_are_sixteen_digits_and_never_the_same() -> None:
    tokens = {Effects().token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == 16 and int(token, 16) >= 0 for token in tokens)


def test_the_boot_clock_is_one_for_all_processes_and_goes_forward() -> None:
    read, write = os.pipe()
    before = Effects().boot_clock()
    code = """
import os, sys
from leasecap._host.effects import Effects
os.write(int(sys.argv[1]), b"%d" % Effects().boot_clock())
"""
    with helper(code, write, pass_fds=(write,)) as other:
        other.process.wait()
    os.close(write)
    said = int(os.read(read, 40))
    os.close(read)
    assert before < said < Effects().boot_clock()


@pytest.mark.posix("OS locks")
def test_hears_says_whether_a_wakeup_is_open(directory: Directory) -> None:
    assert directory.has_receiver("nothing") is None
    for name, make in (("pipe", directory.listen), ("file", partial(put_file, directory))):
        fd = make(name)
        assert fd is not None
        assert directory.has_receiver(name) is True
        directory.notify(name, b"a name")
        os.close(fd)
        assert directory.has_receiver(name) is False
    directory.make("directory")
    assert directory.has_receiver("directory") is None


def test_ring_keeps_a_plain_file_small(place: Path, directory: Directory) -> None:
    (place / "file").touch()
    for _ in range(3):
        directory.notify("file", b"a name\n")
    assert (place / "file").read_bytes() == b"a name\n"


@pytest.mark.posix("named pipes")
def test_listen_needs_no_descriptor_of_the_directory(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pipes.here(monkeypatch, no_pipes.NO_DESCRIPTOR)
    os.close(directory.listen("pipe"))
    assert directory.has_receiver("pipe") is False


@pytest.mark.parametrize("way", no_pipes.WAYS.values(), ids=no_pipes.WAYS)
def test_listen_without_pipes_is_an_os_error(directory: Directory, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    no_pipes.here(monkeypatch, way)
    with pytest.raises(OSError, match=r"(?i)not permitted|no named pipes"):
        directory.listen("pipe")


def test_put_file_does_without_locks(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leasecap._host.file_lock.fcntl", None)
    assert put_file(directory, "file") is None
    assert directory.has_receiver("file") is None
