"""A file system in memory with POSIX semantics, as a value: it can be copied, compared and asked what a step would do.

`test_explore_memory_fs.py` checks it against the real one. What a `Directory` method does in several system calls
that others could see apart (create and fill, write aside and rename, take a probe's lock and give it back) is several
operations here as well.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.presence import Identity, Presence

Perform = Callable[..., Any]


class Failed(NamedTuple):
    """The outcome of an operation that failed."""

    errno: int


class Found(NamedTuple):
    """What stat says; ``version`` is as good as an mtime for telling two contents apart."""

    ino: int
    directory: bool
    version: int
    links: int


class _Error(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


class MemoryFs:
    """Names, inodes, descriptors and locks.

    Inode and descriptor numbers are counted per actor, so that a different order of two independent steps makes the
    same state.

    :ivar names: path -> inode; a directory's children are the paths one component longer.
    :ivar nodes: inode -> None for a directory, else content and version.
    :ivar fds: (process, descriptor) -> open file description.
    :ivar opened: open file description -> inode.
    :ivar locks: inode -> whether exclusive, and the descriptions that hold it.
    """

    __slots__ = ("counters", "fds", "locks", "names", "nodes", "opened")

    def __init__(self) -> None:
        self.names: dict[str, int] = {"": 0}
        self.nodes: dict[int, tuple[bytes, int] | None] = {0: None}
        self.fds: dict[tuple[int, int], int] = {}
        self.opened: dict[int, int] = {}
        self.locks: dict[int, tuple[bool, frozenset[int]]] = {}
        self.counters: dict[int, int] = {}

    def copy(self) -> MemoryFs:
        twin = MemoryFs.__new__(MemoryFs)
        twin.names = self.names.copy()
        twin.nodes = self.nodes.copy()
        twin.fds = self.fds.copy()
        twin.opened = self.opened.copy()
        twin.locks = self.locks.copy()
        twin.counters = self.counters.copy()
        return twin

    def key(self) -> int:
        return hash(
            (
                frozenset(self.names.items()),
                frozenset(self.nodes.items()),
                frozenset(self.fds.items()),
                frozenset(self.opened.items()),
                frozenset(self.locks.items()),
                frozenset(self.counters.items()),
            )
        )

    def apply(self, who: int, process: int, operation: str, args: tuple[Any, ...]) -> Hashable:
        """Do it and return its outcome; `Failed` where the system call would fail."""
        try:
            outcome: Hashable = getattr(self, operation)(who, process, *args)
        except _Error as error:
            return Failed(error.number)
        return outcome

    # -- paths ------------------------------------------------------------------------------------------------------

    def _count(self, who: int) -> int:
        number = self.counters[who] = self.counters.get(who, 0) + 1
        return who * 100_000 + number

    def _parent(self, path: str) -> None:
        above = path.rpartition("/")[0]
        ino = self.names.get(above)
        if ino is None:
            while above:  # a file on the way is ENOTDIR, wherever the way would lead
                above = above.rpartition("/")[0]
                ino = self.names.get(above)
                if ino is not None:
                    raise _Error(errno.ENOENT if self.nodes[ino] is None else errno.ENOTDIR)
            raise _Error(errno.ENOENT)
        if self.nodes[ino] is not None:
            raise _Error(errno.ENOTDIR)

    def _lookup(self, path: str) -> int:
        ino = self.names.get(path)
        if ino is None:
            self._parent(path)
            raise _Error(errno.ENOENT)
        return ino

    def children(self, path: str) -> list[str]:
        """The names in the directory."""
        start = f"{path}/" if path else ""
        cut = len(start)
        return [name[cut:] for name in self.names if name.startswith(start) and name and "/" not in name[cut:]]

    def _forget(self, ino: int) -> None:
        """Drop a file that has neither name nor descriptor."""
        if ino not in self.names.values() and ino not in self.opened.values():
            self.nodes.pop(ino, None)
            self.locks.pop(ino, None)

    def stat(self, who: int, process: int, path: str) -> Found:
        ino = self._lookup(path)
        node = self.nodes[ino]
        if node is not None:
            return Found(ino, False, node[1], 1)
        names = [f"{path}/{name}" if path else name for name in self.children(path)]
        links = 2 + sum(self.nodes[self.names[name]] is None for name in names)
        # Its time tells that names came or went. Nobody asks for that but where marks are left.
        version = zlib.crc32(repr(sorted(names)).encode()) if path.startswith("wake/") else 0
        return Found(ino, True, version, links)

    def list(self, who: int, process: int, path: str, chunk: int = 0) -> tuple[str, ...]:
        if self.nodes[self._lookup(path)] is not None:
            raise _Error(errno.ENOTDIR)
        return tuple(
            sorted(name for name in self.children(path) if not chunk or (sum(name.encode()) % 2 == 0) == (chunk == 1))
        )

    def make(self, who: int, process: int, path: str) -> None:
        self._parent(path)
        if path in self.names:
            raise _Error(errno.EEXIST)
        ino = self._count(who)
        self.names[path] = ino
        self.nodes[ino] = None

    def rename(self, who: int, process: int, old: str, new: str) -> None:
        self._parent(old)
        self._parent(new)
        ino = self.names.get(old)
        if ino is None:
            raise _Error(errno.ENOENT)
        if new.startswith(f"{old}/"):
            raise _Error(errno.EINVAL)
        if old.startswith(f"{new}/"):
            raise _Error(errno.ENOTEMPTY)
        if old == new:
            return
        there = self.names.get(new)
        directory = self.nodes[ino] is None
        if there is not None:
            if directory:
                if self.nodes[there] is not None:
                    raise _Error(errno.ENOTDIR)
                if self.children(new):
                    raise _Error(errno.ENOTEMPTY)
            elif self.nodes[there] is None:
                raise _Error(errno.EISDIR)
        del self.names[old]
        self.names[new] = ino
        if there is not None:
            self._forget(there)
        if directory:
            for name in [name for name in self.names if name.startswith(f"{old}/")]:
                self.names[new + name[len(old) :]] = self.names.pop(name)

    def unlink(self, who: int, process: int, path: str) -> None:
        ino = self._lookup(path)
        if self.nodes[ino] is None:
            raise _Error(errno.EISDIR)
        del self.names[path]
        self._forget(ino)

    def rmdir(self, who: int, process: int, path: str) -> None:
        ino = self._lookup(path)
        if self.nodes[ino] is not None:
            raise _Error(errno.ENOTDIR)
        if self.children(path):
            raise _Error(errno.ENOTEMPTY)
        del self.names[path]
        self._forget(ino)

    # -- files ------------------------------------------------------------------------------------------------------

    def _file(self, path: str, otherwise: int) -> int:
        ino = self._lookup(path)
        if self.nodes[ino] is None:
            raise _Error(otherwise)
        return ino

    def _put(self, ino: int, data: bytes) -> None:
        node = self.nodes[ino]
        assert node is not None
        content = data + node[0][len(data) :]
        self.nodes[ino] = (content, zlib.crc32(content))

    def read(self, who: int, process: int, path: str, limit: int) -> bytes:
        node = self.nodes[self._file(path, errno.EINVAL)]
        assert node is not None
        return node[0][:limit]

    def create(self, who: int, process: int, path: str) -> int:
        self._parent(path)
        if path in self.names:
            raise _Error(errno.EEXIST)
        ino = self._count(who)
        self.names[path] = ino
        self.nodes[ino] = (b"", 0)
        return self._open(who, process, ino)

    def create_aside(self, who: int, process: int, path: str) -> tuple[int, str]:
        """A new file beside ``path``, under a name that nobody else uses."""
        aside = f"{path}.{who}.{self.counters.get(who, 0)}"
        return self.create(who, process, aside), aside

    def overwrite(self, who: int, process: int, path: str, data: bytes) -> None:
        self._put(self._file(path, errno.EISDIR), data)

    def open(self, who: int, process: int, path: str, create: bool) -> int:
        if create and path not in self.names:
            return self.create(who, process, path)
        return self._open(who, process, self._file(path, errno.EISDIR))

    def open_to_probe(self, who: int, process: int, path: str) -> int:
        return self._open(who, process, self._file(path, errno.EINVAL))

    def _open(self, who: int, process: int, ino: int) -> int:
        description = self._count(who)
        self.fds[process, description] = description
        self.opened[description] = ino
        return description

    # -- descriptors ------------------------------------------------------------------------------------------------

    def _description(self, process: int, fd: int) -> int:
        try:
            return self.fds[process, fd]
        except KeyError:
            raise _Error(errno.EBADF) from None

    def inherit(self, who: int, process: int, fd: int, heir: int) -> None:
        """Give the process ``heir`` a copy of the descriptor, as a fork and exec does."""
        self.fds[heir, fd] = self._description(process, fd)

    def lock(self, who: int, process: int, fd: int, exclusive: bool = True) -> bool:
        description = self._description(process, fd)
        ino = self.opened[description]
        old_kind, holders = self.locks.get(ino, (False, frozenset()))
        others = holders - {description}
        if others and (exclusive or old_kind):
            return False
        self.locks[ino] = (exclusive, others | {description})
        return True

    def unlock(self, who: int, process: int, fd: int) -> None:
        self._drop_lock(self._description(process, fd))

    def _drop_lock(self, description: int) -> None:
        ino = self.opened[description]
        kind, holders = self.locks.get(ino, (False, frozenset()))
        holders -= {description}
        if holders:
            self.locks[ino] = (kind, holders)
        else:
            self.locks.pop(ino, None)

    def write_at_start(self, who: int, process: int, fd: int, data: bytes) -> None:
        self._put(self.opened[self._description(process, fd)], data)

    def close(self, who: int, process: int, fd: int) -> None:
        description = self._description(process, fd)
        del self.fds[process, fd]
        if description not in self.fds.values():
            self._drop_lock(description)
            ino = self.opened.pop(description)
            self._forget(ino)

    def unlock_read_and_close(self, who: int, process: int, fd: int, limit: int) -> bytes:
        self.unlock(who, process, fd)
        node = self.nodes[self.opened[self._description(process, fd)]]
        assert node is not None
        self.close(who, process, fd)
        return node[0][:limit]

    # -- pipes and handles on processes -----------------------------------------------------------------------------

    def listen(self, who: int, process: int, path: str) -> int:
        """A new pipe, open to be read from."""
        return self.create(who, process, path)

    def _pipe(self, path: str) -> int:
        ino = self._lookup(path)
        if ino not in self.opened.values():
            raise _Error(errno.ENXIO)
        return ino

    def has_receiver(self, who: int, process: int, path: str) -> bool:
        self._pipe(path)
        return True

    def notify(self, who: int, process: int, path: str, said: bytes) -> None:
        ino = self._pipe(path)
        node = self.nodes[ino]
        assert node is not None
        self.nodes[ino] = (node[0] + said, 0)

    def said(self, process: int, fd: int) -> bytes:
        """What can be read from the pipe."""
        node = self.nodes[self.opened[self.fds[process, fd]]]
        assert node is not None
        return node[0]

    def receive(self, who: int, process: int, fd: int, dead: frozenset[int]) -> tuple[bytes, tuple[int, ...]]:
        """What was written to the pipe, which is empty then; and the handles on the ``dead``."""
        said = self.said(process, fd)
        self.nodes[self.opened[self._description(process, fd)]] = (b"", 0)
        return said, self.handles(process, dead)

    def watch_exit(self, who: int, process: int, other: int) -> int:
        """A handle on the process ``other``."""
        ino = -other
        self.nodes[ino] = (b"", 0)
        return self._open(who, process, ino)

    def handles(self, process: int, others: frozenset[int]) -> tuple[int, ...]:
        """The descriptors of ``process`` that are handles on ``others``."""
        mine = sorted((fd, description) for (owner, fd), description in self.fds.items() if owner == process)
        return tuple(fd for fd, description in mine if -self.opened[description] in others)

    def end(self, process: int) -> None:
        """What the end of a process does: its descriptors are closed."""
        for owner, fd in [key for key in self.fds if key[0] == process]:
            self.close(0, owner, fd)


def _raised(outcome: Any, name: str = "") -> Any:
    if isinstance(outcome, Failed):
        raise OSError(outcome.errno, os.strerror(outcome.errno), name)
    return outcome


class MemoryDirectory(Directory):
    """`Directory` over a `MemoryFs`; ``perform`` does one operation and returns its outcome.

    :param chunked: read listings in two chunks, as those of large directories are.
    """

    __slots__ = ("_chunked", "_perform")

    def __init__(self, path: str, perform: Perform, *, chunked: bool = False) -> None:
        self.path = path
        self._fd = None
        self._perform = perform
        self._chunked = chunked

    def close(self) -> None:
        pass

    def renew(self) -> bool:
        return False  # no program closes what isn't its own here

    def full(self, name: str) -> str:
        return os.path.join(self.path, name)

    def stat(self, name: str = "") -> os.stat_result:
        found: Found = _raised(self._perform("stat", name), name)
        mode = stat.S_IFDIR if found.directory else stat.S_IFREG
        times = {"st_mtime_ns": found.version}
        return os.stat_result((mode, found.ino, 1, found.links, 0, 0, 0, 0, 0, 0), times)

    def list(self, name: str) -> list[str]:
        if not self._chunked:
            return list(_raised(self._perform("list", name), name))
        return [each for chunk in (1, 2) for each in _raised(self._perform("list", name, chunk), name)]

    def make(self, name: str) -> None:
        _raised(self._perform("make", name), name)

    def rename(self, old: str, new: str) -> None:
        _raised(self._perform("rename", old, new), old)

    def unlink(self, name: str) -> None:
        _raised(self._perform("unlink", name), name)

    def rmdir(self, name: str) -> None:
        _raised(self._perform("rmdir", name), name)

    def read_and_stat(self, name: str, limit: int) -> tuple[bytes, os.stat_result]:
        found = self.stat(name)
        return self.read(name, limit), found

    def read(self, name: str, limit: int) -> bytes:
        data: bytes = _raised(self._perform("read", name, limit), name)
        return data

    def write(self, name: str, data: bytes) -> None:
        fd = _raised(self._perform("create", name), name)
        self._perform("write_at_start", fd, data)
        self._perform("close", fd)

    def replace(self, name: str, data: bytes) -> None:
        fd, aside = _raised(self._perform("create_aside", name), name)
        self._perform("write_at_start", fd, data)
        self._perform("close", fd)
        try:
            self.rename(aside, name)
        except OSError:
            try:
                self.unlink(aside)
            except OSError:
                pass
            raise

    def overwrite(self, name: str, data: bytes) -> None:
        _raised(self._perform("overwrite", name, data), name)

    def open(self, name: str, *, create: bool = False) -> int:
        fd: int = _raised(self._perform("open", name, create), name)
        return fd

    def listen(self, name: str) -> int:
        fd: int = _raised(self._perform("listen", name), name)
        return fd

    def notify(self, name: str, said: bytes) -> None:
        _raised(self._perform("notify", name, said), name)

    def has_receiver(self, name: str) -> bool | None:
        found = self._perform("has_receiver", name)
        if isinstance(found, Failed):
            return False if found.errno == errno.ENXIO else None
        return True

    def probe(self, name: str, limit: int = 0) -> tuple[bool | None, bytes]:
        fd = self._perform("open_to_probe", name)
        if isinstance(fd, Failed):
            return None, b""
        free = self._perform("lock", fd, False)
        # One step: what others do between its three comes to the same before it or after it.
        content: bytes = self._perform("unlock_read_and_close", fd, limit)
        return not free, content


class MemoryEffects(Effects):
    """`Effects` of one actor: descriptors in the `MemoryFs`, everything else asked of ``world``."""

    __slots__ = ("_directory", "_perform", "world")

    def __init__(self, perform: Perform, world: Any) -> None:
        self._perform = perform
        self.world = world

    def directory(self, path: str) -> Directory:
        raise NotImplementedError("the explored pool is open")

    def boot_clock(self) -> int:
        return int(self.world.boot_clock())

    def loaded_at(self) -> int:
        return 0  # no actor was another program before

    def monotonic(self) -> float:
        return float(self.world.monotonic())

    def wall_clock(self) -> float:
        return float(self.world.monotonic())

    def token(self) -> str:
        return str(self.world.token())

    def lock(self, fd: int) -> bool:
        return bool(_raised(self._perform("lock", fd)))

    def unlock(self, fd: int) -> None:
        _raised(self._perform("unlock", fd))

    def write_at_start(self, fd: int, data: bytes) -> None:
        _raised(self._perform("write_at_start", fd, data))

    def inode(self, fd: int) -> tuple[int, int] | None:
        return None  # no program closes what isn't its own here

    def close(self, fd: int) -> None:
        _raised(self._perform("close", fd))

    def give_way(self) -> None:
        pass  # the scheduler gives way to anybody at every step

    def me(self) -> Identity:
        identity: Identity = self.world.me()
        return identity

    def presence(self, pid: int, start: int) -> Presence:
        presence: Presence = self._perform("presence", pid, start)
        return presence

    def namespaces(self) -> frozenset[str] | None:
        return None

    @property
    def sees_exits(self) -> bool:
        return bool(self.world.sees_exits)

    @property
    def others_see_exits(self) -> bool:
        return bool(self.world.sees_exits)

    def exit_of(self, pid: int, start: int) -> tuple[int, Presence] | None:
        handle: int | None = self._perform("exit_of", pid, start)
        if handle is None:
            return None
        presence = self.presence(pid, start)
        if presence == "gone":
            self.close_exit(handle)
            return None
        return handle, presence

    def close_exit(self, handle: int) -> None:
        self.close(handle)


def _covers(shipped: type, fake: type) -> None:
    """An effect that this file doesn't know would be done for real, unseen by the scheduler."""
    missing = {name for name in vars(shipped) if not name.startswith("_") and name not in vars(fake)} - {"path"}
    if missing:
        raise NotImplementedError(f"{fake.__name__} lacks {', '.join(sorted(missing))} of {shipped.__name__}")


_covers(Directory, MemoryDirectory)
_covers(Effects, MemoryEffects)
