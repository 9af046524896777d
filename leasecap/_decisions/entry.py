"""Entry names: all that the decisions need to know of a ticket or a lease stands in its directory's name.

So a look at a pool is a listing; no record is parsed under the pool lock, and a corrupt record can't move the cap. The
name never changes: *where* an entry stands (``queue/``, ``granted/``, ``leases/``, ``parked/``) is its state. Names
sort in queue order, and have only ``[0-9a-f-]`` in them, which no file system folds or refuses.
"""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter

from leasecap._errors import LeasecapError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

PRIORITY_LIMIT = 99
"""Priorities run from -99 to 99, so that they sort as three digits."""

_NAME_MAX = 255  # bytes: ext4, xfs, btrfs, APFS, NTFS


class Entry(NamedTuple):
    """A ticket or a lease, by its name; entries sort in queue order.

    :ivar name: the directory's name, which never changes.
    :ivar token: unguessable and never used twice; the id that people see.
    :ivar process: the id under which its process is woken.
    :ivar order: the place of its call, as the pool counts them (`order`); comparable within the pool alone.
    :ivar limit: the limit its owner declared, or None.
    :ivar ancestors: tokens of the leases its owner runs under in this pool, innermost first.
    """

    name: str
    token: str
    process: str
    order: int
    priority: int
    limit: int | None
    ancestors: tuple[str, ...]


def make_entry(
    *, token: str, process: str, order: int, priority: int, limit: int | None, ancestors: tuple[str, ...] = ()
) -> Entry:
    """Return the entry with these facts.

    :raises LeasecapError: when it has more living ancestors than fit into a file name (about ten).
    """
    # 500 - priority: three digits, and the higher priority sorts first.
    # A clock that was moved (libfaketime moves this one too) can be negative, and with a "-" no name could be parsed.
    order = max(order, 0)
    name = "-".join((f"{500 - priority:03d}", f"{order:016x}", token, process, f"{limit or 0:x}", *ancestors))
    if len(name) > _NAME_MAX:
        raise LeasecapError(
            f"{len(ancestors)} leases of one pool are nested in each other here, more than an entry's name can hold; "
            "an agent that starts itself without end is the likely cause. Pass borrow=False (--no-borrow) to take a "
            "slot of its own instead."
        )
    return parse_entry(name)


# Cached, since each sweep parses the names of all holders again.
@lru_cache(maxsize=8192)
def parse_entry(name: str) -> Entry:
    """Return what ``name`` says. A name that leasecap didn't write is an entry without a token: it counts as held."""
    parts = name.split("-")
    try:
        priority, order, token, process, limit, *ancestors = parts
        if not (len(priority) == 3 and len(order) == len(token) == 16 and len(process) == 12):
            raise ValueError(name)  # `process_of` relies on these lengths
        return Entry(
            name, token, process, int(order, 16), 500 - int(priority), int(limit, 16) or None, tuple(ancestors)
        )
    except ValueError:
        return Entry(name=name, token="", process="", order=0, priority=0, limit=None, ancestors=())


process_of = itemgetter(slice(38, 50))
"""The process in a name that leasecap wrote, without parsing the name."""

_declared_in = itemgetter(slice(51, None))
"""The limit and the ancestors in a name that leasecap wrote."""

mark_of = itemgetter(slice(44, 50))
"""The end of `process_of`, which is the same for each program that one process becomes (``exec``)."""


class Group:
    """The entries of one place, each name once.

    :ivar names: the names as they were listed.
    """

    __slots__ = ("names",)

    def __init__(self, names: Collection[str] = ()) -> None:
        self.names = names

    @staticmethod
    def of(entries: Iterable[Entry]) -> Group:
        """A group of these entries."""
        return Group(dict.fromkeys([entry.name for entry in entries]))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Entry]:
        return map(parse_entry, self.names)

    def without(self, names: Collection[str]) -> Group:
        """The group without the entries of these names."""
        return Group([name for name in self.names if name not in names]) if names else self

    def without_processes(self, processes: Collection[str]) -> Group:
        """The group without the entries of these processes."""
        return Group([name for name in self.names if process_of(name) not in processes]) if processes else self

    @property
    def lowest(self) -> int | None:
        """The lowest limit that an entry declares."""
        return min((entry.limit for entry in self._declarations() if entry.limit is not None), default=None)

    @property
    def nested(self) -> bool:
        """Whether an entry runs under other leases of the pool."""
        return any(entry.ancestors for entry in self._declarations())

    def _declarations(self) -> Collection[Entry]:
        """One entry for each limit and ancestors, since most declare the same: each decision asks this of all."""
        found: dict[str, Entry] = {}
        for name in self.names:
            declared = _declared_in(name)
            if declared not in found:
                entry = parse_entry(name)
                if entry.token:  # else leasecap didn't write the name, and one that it wrote may end in the same way
                    found[declared] = entry
        return found.values()
