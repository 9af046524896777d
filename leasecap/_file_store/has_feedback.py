"""Whether anything is known of a pool's provider; asked by every acquire."""

from __future__ import annotations

import stat

from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._file_store.layout import FEEDBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.layout import Pool


def has_feedback(pool: Pool) -> bool:
    """Whether anybody has ever noted anything.

    :raises StoreError: when something else stands in the place of the directory.
    """
    # A stat is cheaper than an open and a listing, and each acquire comes here.
    directory = pool.directory
    with faults(directory.full(FEEDBACK)):
        try:
            found = directory.stat(FEEDBACK)
        except FileNotFoundError:
            return False
    if not stat.S_ISDIR(found.st_mode):
        raise unknown(pool, FEEDBACK, "is no directory")
    return True


def unknown(pool: Pool, name: str, why: str) -> StoreError:
    """That nobody knows what the pool has learned, since ``name`` can't be read."""
    from leasecap._feedback.messages import resume_command

    return StoreError(
        f"{why}; it may hold a pause or a reduced limit of pool {pool.name.text!r}, so no slot is given out",
        path=pool.directory.full(name),
        remedy=f"{resume_command(pool.name.text)} starts it anew, at the configured limit",
    )
