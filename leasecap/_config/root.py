"""The root: the one directory that all who share a cap share."""

from __future__ import annotations

import errno
import os
import stat
from functools import lru_cache

from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults, store_error

ENVIRONMENT = "LEASECAP_HOME"


def root_path() -> str:
    """The root's absolute path: ``LEASECAP_HOME``, else platformdirs' config directory of this user.

    :raises ConfigError: when ``LEASECAP_HOME`` is set to something that can't be a path.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen is None or chosen == "":
        import platformdirs  # 18 ms, and not needed when the variable is set

        return platformdirs.user_config_dir("leasecap", appauthor=False)
    return _checked(chosen)


@lru_cache(maxsize=16)
def _checked(chosen: str) -> str:
    if not os.path.isabs(chosen):
        # Agents run in many directories: a relative root would be a different cap in each of them.
        raise ConfigError(
            "must be an absolute path: agents in different directories would each get a cap of their own",
            file="environment",
            key=ENVIRONMENT,
            value=chosen,
            allowed=f"for example {ENVIRONMENT}={os.path.abspath(chosen)}",
        )
    return os.path.normpath(chosen)


def make_root(path: str) -> None:
    """Create the root (0700) if it is missing, and check it.

    :raises StoreError: when it can't be created, or is no place to trust (see `check_root`).
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise store_error(error, path) from error
    check_root(path)


def check_root(path: str) -> None:
    """Refuse a root that others could have prepared or can change.

    :raises StoreError: for a symlink, something that's no directory, another owner, or write access for others.
    """
    with faults(path):
        found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise store_error(OSError(errno.ELOOP, "is a symlink"), path)
    if not stat.S_ISDIR(found.st_mode):
        raise store_error(OSError(errno.ENOTDIR, "is no directory"), path)
    if not hasattr(os, "geteuid"):
        return  # Windows: access lists, not modes
    if found.st_uid != os.geteuid():
        raise StoreError(
            f"belongs to uid {found.st_uid}, and this is uid {os.geteuid()}",
            path=path,
            remedy="a cap is shared by the processes of one user: run as that user, or set LEASECAP_HOME to a root of "
            "your own",
        )
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise StoreError(
            f"can be changed by other users (mode {stat.S_IMODE(found.st_mode):04o})",
            path=path,
            remedy=f"look whether anything in it is not yours, then: chmod 700 {path}",
        )
