"""Checks of the root as a place: where it is, whose it is, which file system it is on, and what can be done there."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import stat
from contextlib import contextmanager
from secrets import token_hex

from leasecap._config.root import check_root
from leasecap._doctor.check import Check
from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects
from leasecap._host.file_lock import NO_OS_LOCKS
from leasecap._host.file_system import file_system as file_system_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._doctor.check import Site

SCRATCH = ".leasecap-doctor-"
_TEMPORARY = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # to recognise, not to use


@contextmanager
def scratch(ground: str) -> Iterator[str]:
    """A new directory in ``ground`` for the block, which is removed afterwards."""
    path = os.path.join(ground, SCRATCH + token_hex(8))
    try:
        os.mkdir(path, 0o700)  # inside, and with a name known before, as a signal may end this at any moment
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def root(site: Site) -> Check:
    """Which directory it is, and why that one."""
    found = f"{site.root} ({site.source})"
    if not os.path.lexists(site.root):
        found += ", not there yet: made on first use"
    for temporary in filter(None, (*_TEMPORARY, os.environ.get("TMPDIR"))):
        if _is_below(site.root, temporary):
            return Check(
                "root",
                "note",
                found,
                f"it is in {temporary}, and sandboxes and services often get a {temporary} of their own, and with it a "
                "cap of their own. Better: a directory in your home.",
            )
    return Check("root", "ok", found)


def _is_below(path: str, directory: str) -> bool:
    return os.path.commonpath((os.path.realpath(path), os.path.realpath(directory))) == os.path.realpath(directory)


def permissions(site: Site) -> Check:
    """Whose it is, and who else may read or change it."""
    check_root(site.root)
    mode = stat.S_IMODE(os.lstat(site.root).st_mode)
    found = f"yours alone (mode {mode:04o})"
    if mode & 0o055:
        command = f"chmod 700 {shlex.quote(site.root)}"
        remedy = f"labels, commands and directories of your agents stand in it. To hide them:\n  {command}"
        return Check("permissions", "note", f"others can read it, not change it (mode {mode:04o})", remedy)
    return Check("permissions", "ok", found)


def file_system(site: Site) -> Check:
    """Which file system the root is on, and whether one kernel alone can write to it."""
    found = file_system_of(site.ground)
    free = shutil.disk_usage(site.ground).free
    text = f"{found.type}, {'local' if found.local else 'not known to be local'}, {_amount(free)} free"
    if site.given is not None:
        text += f" ({site.ground})"
    if not found.local:
        return Check(
            "file system",
            "note",
            text,
            "other machines may share it. A holder that is not visible from here then counts as dead only when its "
            "heartbeat has stood still for stale_after (30 s). If several machines do use it, write into config.toml:\n"
            '  [defaults]\n  lock = "directory"',
        )
    if found.type == "overlay":
        return Check(
            "file system",
            "note",
            text,
            "in a container, this may be the container's own: agents outside or in other containers would then have a "
            "cap of their own. Mount one directory into all of them and set LEASECAP_HOME to it.",
        )
    return Check("file system", "ok", text)


def _amount(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def writing(site: Site) -> Check:
    """Whether what every lease does can be done there: make, write, rename into another directory, remove."""
    with faults(site.ground), scratch(site.ground) as path:
        directory = Directory(path)
        try:
            for name in ("one", "two", "one/entry"):
                directory.make(name)
            directory.write("one/entry/record", b"." * 4096)
            _rename(directory)
            directory.unlink("two/entry/record")
            directory.rmdir("two/entry")
        finally:
            directory.close()
    return Check("writing", "ok", f"this process makes, renames and removes entries in {site.ground}")


def _rename(directory: Directory) -> None:
    try:
        directory.rename("one/entry", "two/entry")
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise StoreError(
            "an entry can't be renamed from one directory into another",
            path=directory.path,
            remedy="a sandbox forbids it, as Landlock does before kernel 5.19 and where its rules don't grant it: run "
            "agents in a sandbox that allows the whole root, or none",
        ) from error


def locks(site: Site) -> Check:
    """Whether OS locks exclude each other, between two open descriptions. The proof shows it between processes."""
    effects = Effects()
    with scratch(site.ground) as path:
        directory = Directory(path)
        one = directory.open("lock", create=True)
        two = directory.open("lock")
        try:
            excludes = effects.lock(one) and not effects.lock(two) and directory.probe("lock")[0] is True
            effects.unlock(one)
            excludes = excludes and directory.probe("lock")[0] is False and effects.lock(two)
        except OSError as error:
            if error.errno not in NO_OS_LOCKS:
                raise
            return Check(
                "locks",
                "note",
                f"no OS locks here ({error.strerror}): pools use a lock directory, and heartbeats tell who lives",
            )
        finally:
            effects.close(one)
            effects.close(two)
            directory.close()
    if not excludes:
        return Check(
            "locks",
            "bad",
            "OS locks are granted twice, or not given back: they can't keep a cap",
            "put the root on a local file system, or write into config.toml, while no agent runs:\n  [defaults]\n  "
            'lock = "directory"',
        )
    return Check("locks", "ok", "OS locks (flock) exclude one another")
