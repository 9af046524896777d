"""The root: the one directory that all who share a cap share."""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import lru_cache

from leasecap._config.trust import danger, follow
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults, no_directory, store_error

ENVIRONMENT = "LEASECAP_HOME"


def root_path() -> str:
    """The root's absolute path: ``LEASECAP_HOME``, else platformdirs' config directory of this user.

    If a link stands there, it is the path of what that leads to (`trust.follow`).

    :raises ConfigError: when ``LEASECAP_HOME`` is set to something that can't be meant, or there is no home.
    :raises StoreError: when a link there isn't to be trusted.
    """
    chosen = os.environ.get(ENVIRONMENT)
    path = _checked(chosen) if chosen else _default()
    return follow(path) if os.path.islink(path) else path


def _default() -> str:
    import platformdirs  # slow to load, and not needed when the variable is set

    homeless = os.environ.get("HOME") == "" and not os.environ.get("XDG_CONFIG_HOME")
    try:
        path = platformdirs.user_config_dir("leasecap", appauthor=False)
    except RuntimeError:
        homeless = True  # later versions of platformdirs raise it; earlier ones return a path that begins with a ~
    if homeless or not os.path.isabs(path):
        raise ConfigError(
            "this user has no home directory, and so no place for the root",
            file="environment",
            key="HOME",
            value=repr(os.environ["HOME"]) if "HOME" in os.environ else None,
            allowed=f"set {ENVIRONMENT} to an absolute path, the same for all who share a cap",
        )
    return path


@lru_cache(maxsize=16)
def _checked(chosen: str) -> str:
    meant = chosen.strip().replace("\r", "").replace("\n", "")
    if meant != chosen or any(ord(letter) < 32 for letter in chosen):
        # An environment file with Windows' line ends has such a value, and it would silently be another root.
        raise ConfigError(
            "has a blank, a line end or another control character where it doesn't show",
            file="environment",
            key=ENVIRONMENT,
            value=repr(chosen),
            allowed=f"for example {ENVIRONMENT}={meant}" if meant else f"unset {ENVIRONMENT}, or name a directory",
        )
    if "~" in chosen.split("/") or chosen.startswith("~"):
        raise ConfigError(
            "has a ~ in it that no shell has replaced by a home directory",
            file="environment",
            key=ENVIRONMENT,
            value=chosen,
            allowed=f"for example {ENVIRONMENT}={os.path.expanduser(chosen[chosen.index('~') :])}",
        )
    if not os.path.isabs(chosen):
        try:
            example = os.path.abspath(chosen)
        except FileNotFoundError:  # the working directory was removed
            example = f"/home/me/{chosen}"
        # Agents run in many directories, and in each of them a relative root would be another cap.
        raise ConfigError(
            "must be an absolute path: agents in different directories would each get a cap of their own",
            file="environment",
            key=ENVIRONMENT,
            value=chosen,
            allowed=f"for example {ENVIRONMENT}={example}",
        )
    return os.path.normpath(chosen)


def make_root(path: str) -> None:
    """Create the root (0700) if it is missing, and check it.

    :raises StoreError: when it can't be created, or is no place to trust (see `check_root`).
    """
    if sys.platform != "win32" and os.geteuid() == 0 and not os.path.lexists(path):
        _refuse_others_home(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileNotFoundError as error:
        raise _cannot_be_made(path) from error  # as below /proc
    except FileExistsError as error:
        if not os.path.lexists(path):
            raise _cannot_be_made(path) from error  # on the way to it stands a link to nothing
    except OSError as error:
        raise store_error(error, path) from error
    check_root(path)


def _cannot_be_made(path: str) -> StoreError:
    return StoreError(
        "no directory can be made there",
        path=path,
        remedy=f"see what stands at {os.path.dirname(path)}, or set {ENVIRONMENT} to a directory elsewhere, the same "
        "for all who share a cap",
    )


def _refuse_others_home(path: str) -> None:
    """Refuse to make a root as the superuser in somebody else's HOME (sudo): its owner could not open it."""
    if sys.platform == "win32":
        return
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    with faults(path):
        owner = os.stat(parent).st_uid
    if owner == 0:
        return
    import pwd

    try:
        user = pwd.getpwuid(owner)
    except KeyError:
        return
    home = os.path.realpath(user.pw_dir)
    if home != "/" and os.path.commonpath((home, os.path.realpath(path))) == home:
        raise StoreError(
            f"isn't there yet, and would be root's in the home of {user.pw_name}, who couldn't use it",
            path=path,
            remedy=f"run leasecap as that user, without sudo (or: sudo -u {user.pw_name} leasecap ...); for root's own "
            f"agents set {ENVIRONMENT} to a directory of root's",
        )


def check_root(path: str) -> None:
    """Refuse a root that others could have prepared or can change.

    :raises StoreError: if it is no directory (`root_path` has followed a link before), has another owner, or others may
        write to it.
    """
    with faults(path):
        found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise store_error(OSError(errno.ELOOP, "is a symlink"), path)
    if not stat.S_ISDIR(found.st_mode):
        raise no_directory(path)
    if sys.platform == "win32":
        return  # Windows has access lists in place of modes
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"belongs to uid {found.st_uid}, and this is uid {os.geteuid()}",
            path=path,
            remedy="a cap is shared by the processes of one user: run as that user, or set LEASECAP_HOME to a root of "
            "your own",
        )
    wrong = danger(found)
    if wrong:
        import shlex

        remedy = f"look whether anything in it is not yours, then: chmod 700 {shlex.quote(path)}"
        raise StoreError(wrong, path=path, remedy=remedy)
    if found.st_mode & stat.S_ISVTX and found.st_mode & 0o022:
        _check_what_is_in_it(path)


def _check_what_is_in_it(path: str) -> None:
    """Check what stands in a root into which others can put something, though they can't remove what is the user's."""
    if sys.platform == "win32":
        return
    for name in ("config.toml", "config.lock", "pools", "wake", "gate", "gates"):
        try:
            owner = os.lstat(os.path.join(path, name)).st_uid
        except FileNotFoundError:
            continue
        if owner not in (os.geteuid(), 0):
            import shlex

            raise StoreError(
                f"belongs to uid {owner}, who put it there",
                path=os.path.join(path, name),
                remedy=f"chmod 700 {shlex.quote(path)}, and move it away",
            )
