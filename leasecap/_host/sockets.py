"""Whose socket is at the other end of a connection on this machine (Linux; elsewhere that can't be told).

From the tables of TCP sockets in /proc/net, where both ends of a loopback connection stand, each with its own address
first.
"""

from __future__ import annotations

import os
import select
import sys

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

SEES_PEERS = sys.platform == "linux"
"""Whether it can be told on this platform."""

_PIECE = 1 << 14
_LISTENS = "0A"  # TCP_LISTEN of the kernel

_MAPPED = bytes(10) + b"\xff\xff"
"""What stands before an IPv4 address where an IPv6 socket talks IPv4."""


class PeerSocket(NamedTuple):
    """The socket at the other end: whose it is, and its inode."""

    uid: int
    inode: int


def peer_socket(peer: tuple[object, ...], local: tuple[object, ...]) -> PeerSocket | None:
    """The other end of an accepted connection, by its addresses as ``getpeername`` and ``getsockname`` give them.

    None where it can't be told: not Linux, no /proc, a peer in another network namespace, or one that has closed.
    """
    if not SEES_PEERS:
        return None
    try:
        needles = _needles(peer, local)
    except ValueError:
        return None
    for table, needle in needles:
        found = _find(table, needle)
        if found is not None:
            return found
    return None


def peer_uid(peer: tuple[object, ...], local: tuple[object, ...]) -> int | None:
    """Whose the other end of an accepted connection is; None where that can't be told."""
    found = peer_socket(peer, local)
    return None if found is None else found.uid


def peer_inode(peer: tuple[object, ...], local: tuple[object, ...]) -> int | None:
    """The inode of the socket at the other end of an accepted connection; None where that can't be told."""
    found = peer_socket(peer, local)
    return None if found is None else found.inode


def is_readable(connection: socket.socket) -> bool:
    """Whether something has come that is not read yet, or the end."""
    if sys.platform == "win32":
        return bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()  # select knows no descriptor above 1023
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def listener_on(port: int) -> PeerSocket | None:
    """The socket that listens on ``port`` and takes connections to 127.0.0.1; None where that can't be told."""
    if not SEES_PEERS:
        return None
    loopback = b"\x7f\x00\x00\x01"
    places = {f"{_hex(place)}:{port:04X}" for place in (loopback, bytes(4), _MAPPED + loopback, bytes(16))}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = _read(table).decode("ascii").splitlines()[1:]
        except (OSError, ValueError):
            continue
        for fields in map(str.split, rows):
            if fields[1] in places and fields[3] == _LISTENS:
                return PeerSocket(int(fields[7]), int(fields[9]))
    return None


def has_closed(connection: socket.socket) -> bool:
    """Whether the other end of a connection is closed, though what it sent before that has not been read.

    Elsewhere than on Linux the connection may have to be broken for that to show.
    """
    if sys.platform == "win32":
        return False
    poll = select.poll()
    poll.register(connection, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0)) or (SEES_PEERS and _is_abandoned(connection))


def _is_abandoned(connection: socket.socket) -> bool:
    """Whether no process has the other end. Its system sends the end after all data, for which there may be no room."""
    try:
        needles = _needles(connection.getpeername(), connection.getsockname())
        tables = [(_read(table), needle) for table, needle in needles]
    except (OSError, ValueError):
        return False
    return any(needle in content for content, needle in tables) and not any(
        find_row(content, needle) for content, needle in tables
    )


def pids_of_socket(inode: int, candidates: Iterable[int] = ()) -> list[int] | None:
    """The processes that have the socket open, as far as their descriptors may be read; None where none may.

    :param candidates: processes to look at first; if any of them has it, no others are looked for.
    """
    if not SEES_PEERS:
        return None
    found = [pid for pid in candidates if _has_open(pid, inode)]
    if found:
        return found
    try:
        names = os.listdir("/proc")
    except OSError:
        return None
    return [int(name) for name in names if name.isdigit() and _has_open(int(name), inode)]


def _needles(peer: tuple[object, ...], local: tuple[object, ...]) -> list[tuple[str, bytes]]:
    """What to look for in which table: IPv4 may stand in either, as the peer's socket may be of either kind."""
    (there, there_port), (here, here_port) = _end(peer), _end(local)
    kinds = [("/proc/net/tcp6", b"")]
    if len(there) == len(here) == 4:
        kinds = [("/proc/net/tcp", b""), ("/proc/net/tcp6", _MAPPED)]
    return [
        (table, f" {_hex(before + there)}:{there_port:04X} {_hex(before + here)}:{here_port:04X} ".encode())
        for table, before in kinds
    ]


def _end(address: tuple[object, ...]) -> tuple[bytes, int]:
    """The bytes of an IP address, four if it is one of IPv4 in disguise, and the port."""
    import ipaddress  # slow to load, and `run` asks for `SEES_PEERS` alone

    host, port = address[:2]
    parsed = ipaddress.ip_address(str(host))
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.packed, int(str(port))


def _hex(packed: bytes) -> str:
    """An address as the kernel writes it: words of 32 bits in the machine's own order."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _find(table: str, needle: bytes) -> PeerSocket | None:
    rest = b""
    try:
        with open(table, "rb", buffering=0) as file:
            # No further than to the row: the kernel writes each as it is read, and there may be thousands.
            while piece := file.read(_PIECE):
                rows, _, rest = (rest + piece).rpartition(b"\n")
                found = find_row(rows, needle)
                if found is not None:
                    return found
    except OSError:
        pass
    return None


def _read(table: str) -> bytes:
    with open(table, "rb", buffering=0) as file:
        return file.read()


def find_row(content: bytes, needle: bytes) -> PeerSocket | None:
    """The socket in the row with these two addresses."""
    _, found, after = content.partition(needle)
    if not found:
        return None
    # st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode: proc_net_tcp.rst
    fields = after.partition(b"\n")[0].split()
    try:
        uid, inode = int(fields[4]), int(fields[6])
    except (IndexError, ValueError):
        return None
    # Once its process has closed it, it shows root as its owner and no inode.
    return PeerSocket(uid, inode) if inode else None


def _has_open(pid: int, inode: int) -> bool:
    link = f"socket:[{inode}]"
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it has ended, or is somebody else's
        return False
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}") == link:
                return True
        except OSError:
            pass  # closed meanwhile
    return False
