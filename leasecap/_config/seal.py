"""Whether config.toml is whole. What `leasecap limit` writes is whole, and a digest of it says so.

A file that a person is writing can be valid half-way. It counts as whole once it has stood still.
"""

from __future__ import annotations

import os

from leasecap._config.pool_name import sha256

STANDS_STILL = 1.0
"""Seconds for which config.toml must have been the same before a higher limit counts."""

_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def seal(root: str, text: str) -> None:
    """Note that ``text`` is a whole configuration, before it takes the place of config.toml.

    Call it only under the editors' lock. If the note can't be written, the file has to stand still like any other.
    """
    try:
        fd = os.open(_seal_of(root), os.O_WRONLY | os.O_CREAT | _SAFELY, 0o600)
        try:
            os.write(fd, _digest(text))
        finally:
            os.close(fd)
    except OSError:
        pass


def is_sealed(root: str, text: str) -> bool:
    """Whether it was noted that ``text`` is whole."""
    try:
        fd = os.open(_seal_of(root), os.O_RDONLY | _SAFELY)
        try:
            return os.read(fd, 65) == _digest(text)
        finally:
            os.close(fd)
    except OSError:
        return False


def _seal_of(root: str) -> str:
    # The note stands in the file that editors lock. That file stays there anyway, and locking it empties it.
    return os.path.join(root, "config.lock")


def _digest(text: str) -> bytes:
    return sha256()(text.encode()).hexdigest().encode()
