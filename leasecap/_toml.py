"""The file under config.toml: opened without trust in what lies there, parsed, searched for the line of an error."""

from __future__ import annotations

import errno
import os
import stat

from leasecap._errors import ConfigError, StoreError
from leasecap._faults import store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 1 << 20  # bytes

# O_NONBLOCK: opening a FIFO that somebody planted would wait for a writer, for ever.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_MOST_PROBES = 200


def read_text(path: str) -> str | None:
    """The contents of ``path``, or None if it, or a directory on the way to it, doesn't exist.

    :raises StoreError: if it is no regular file of reasonable size, or can't be read.
    :raises ConfigError: if it is no UTF-8.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_a_file(path, found.st_mode)
        # Read on past the size: it may have grown, and says nothing on some file systems.
        parts: list[bytes] = []
        while (part := os.read(descriptor, 1 << 16)) and sum(map(len, parts)) <= LARGEST:
            parts.append(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    data = b"".join(parts)
    if len(data) > LARGEST:
        raise StoreError(
            "the configuration is larger than 1 MiB", path=path, remedy="Move it away, or cut it down to its settings."
        )
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8 here", file=path, line=line, allowed="Save it as UTF-8.") from None


def _unreadable(path: str, error: OSError) -> StoreError:
    if error.errno in (errno.ELOOP, errno.EMLINK) and os.path.islink(path):
        return StoreError(
            "is a symbolic link, and what stands in the root is never read through one",
            path=path,
            remedy="Put the file itself here instead of the link, or set LEASECAP_HOME to the directory that it is in.",
        )
    if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # what opening a socket says
        return _not_a_file(path, stat.S_IFSOCK)
    if error.errno == errno.ENOTDIR:
        return StoreError(
            "can't be there, for what should be a directory on the way is none",
            path=path,
            remedy="Move that file away, or set LEASECAP_HOME to a directory.",
        )
    remedy = store_error(error, path).remedy
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "Give yourself the right to read it (chmod u+r, chown), or move it away to go on without it."
    return StoreError(f"can't be read ({os.strerror(error.errno or 0)})", path=path, remedy=remedy)


def _not_a_file(path: str, mode: int) -> StoreError:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return StoreError(f"is {kind}, not a file", path=path, remedy="Find out who put it there, and move it away.")


def parse_toml(path: str, text: str) -> dict[str, object]:
    """The document in ``text``. The line of a syntax error is where the parser stopped, which may be one too far.

    :raises ConfigError: if it is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("the file is nested too deeply", file=path) from None
    except ValueError as error:  # TOMLDecodeError is one; a number of too many digits is a plain one
        what, _, place = str(error).partition(" (at ")
        number = place.partition(",")[0].removeprefix("line ")
        line = int(number) if number.isdigit() else text.count("\n") + 1 if place else None
        raise ConfigError(
            f"this is not valid TOML: {what}", file=path, line=line, allowed="Correct the file; nothing was changed."
        ) from None


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line in valid ``text``, counted from 1, at which the statement that brings in ``keys`` begins.

    It halves the file by lines and asks the parser whether the first half has the key, so it is right for dotted keys,
    inline tables and texts of several lines alike. None if that takes too long.
    """
    import tomllib

    lines = text.replace("\r\n", "\n").split("\n")
    probes = 0

    def has(count: int) -> bool | None:
        nonlocal probes
        probes += 1
        try:
            node: object = tomllib.loads("\n".join(lines[:count]))
        except ValueError:
            return None  # cut in the middle of a statement
        for key in keys:
            if not isinstance(node, dict) or key not in node:
                return False
            node = node[key]
        return True

    without, within = 0, len(lines)
    while within - without > 1 and probes < _MOST_PROBES:
        middle = (without + within) // 2
        # From the middle down, then up, to the nearest end of a statement.
        for count in (*range(middle, without, -1), *range(middle + 1, within)):
            answer = has(count)
            if answer is not None:
                without, within = (without, count) if answer else (count, within)
                break
            if probes >= _MOST_PROBES:
                return None
        else:
            break  # all of it is one statement
    return without + 1 if probes < _MOST_PROBES else None


def key_text(keys: Sequence[str]) -> str:
    """A dotted key for people, quoted where TOML needs it, with nothing in it that a terminal obeys."""
    return ".".join(key if _is_bare(key) else _quoted(key) for key in keys)


def _is_bare(key: str) -> bool:
    return key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()


def _quoted(key: str) -> str:
    from leasecap._redact import mask, printable

    return '"' + printable(mask(key), 80).replace('"', '\\"') + '"'
