"""Whom a path belongs to: a link is followed only if nobody but the user and root can change where it leads."""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import lru_cache

from leasecap._errors import StoreError
from leasecap._faults import store_error

_MOST_LINKS = 40  # as Linux has it


def follow(path: str) -> str:
    """The real path of what the link at ``path`` leads to.

    The target, and each directory and link on the way to it, must be the user's or root's, and nobody else may be able
    to change it.

    :raises StoreError: when that isn't so, or nothing is there.
    """
    links = 0
    try:
        if sys.platform == "win32":
            return os.path.realpath(path, strict=True)  # its paths have drives, and access lists in place of modes
        here, rest = "/", _parts(os.path.abspath(path))
        while rest:
            part = rest.pop()
            if part == "..":
                here = os.path.dirname(here)
                continue
            if links:
                _check(path, here, os.lstat(here))
            there = os.path.join(here, part)
            found = os.lstat(there)
            if not stat.S_ISLNK(found.st_mode):
                here = there
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            _check(path, there, found)
            target = os.readlink(there)
            if os.path.isabs(target):
                here = "/"
            rest += _parts(target)
        _check(path, here, os.lstat(here))
    except FileNotFoundError:
        raise StoreError(
            f"is a link to {os.readlink(path)}, and nothing is there",
            path=path,
            remedy="make that, or put the file or directory itself here in place of the link",
        ) from None
    except OSError as error:
        raise store_error(error, path) from error
    return here


def _parts(path: str) -> list[str]:
    """The parts of the path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _check(path: str, on_the_way: str, found: os.stat_result) -> None:
    wrong = danger(found)
    if wrong:
        import shlex

        raise StoreError(
            f"is a link, and on the way to what it leads to {on_the_way} {wrong}",
            path=path,
            remedy="look who changes that; if it is to be trusted: "
            f"chmod go-w {shlex.quote(on_the_way)}, as its owner. Else put the file or directory itself here in place "
            "of the link",
        )


def danger(found: os.stat_result) -> str:
    """Why somebody else than the user and root can change what stands there; "" if nobody can."""
    if sys.platform == "win32":
        return ""  # Windows has access lists in place of modes
    me = os.geteuid()
    if found.st_uid not in (me, 0):
        return f"belongs to uid {found.st_uid}"
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISLNK(found.st_mode) or (mode & stat.S_ISVTX and stat.S_ISDIR(found.st_mode)):
        return ""  # a link has no mode, and in a sticky directory nobody can move what is another's
    if mode & 0o002 or (mode & 0o020 and not _is_own_group(found.st_gid, me)):
        return f"can be changed by other users (mode {mode:04o})"
    return ""


@lru_cache(maxsize=16)
def _is_own_group(group: int, user: int) -> bool:
    """Whether the group is the user's own, with nobody else in it."""
    if sys.platform == "win32" or group == 0:
        return False  # containers put any user into the group 0
    import grp
    import pwd

    try:
        me, members = pwd.getpwuid(user), grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    others = (other for other in pwd.getpwall() if other.pw_gid == group and other.pw_uid != user)
    return me.pw_gid == group and set(members) <= {me.pw_name} and next(others, None) is None
