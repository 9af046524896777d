from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leasecap._host import sockets
from leasecap._host.sockets import (
    PeerSocket,
    has_closed,
    listener_on,
    peer_inode,
    peer_socket,
    peer_uid,
    pids_of_socket,
)

linux = pytest.mark.linux("/proc/net is Linux's")


@contextmanager
def connected(server: str, client: str, family: socket.AddressFamily) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket of this family, and what the server that listens at ``server`` has accepted."""
    kind = socket.AF_INET6 if ":" in server else socket.AF_INET
    try:
        listening = socket.create_server((server, 0), family=kind, dualstack_ipv6=server == "::")
    except (OSError, ValueError):
        pytest.skip(f"can't listen on {server} here")
    with listening, socket.socket(family) as asking:
        asking.connect((client, listening.getsockname()[1]))
        accepted, _ = listening.accept()
        with accepted:
            yield asking, accepted


def ends(accepted: socket.socket) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return accepted.getpeername(), accepted.getsockname()


KINDS = [
    ("127.0.0.1", "127.0.0.1", socket.AF_INET),
    ("127.0.0.1", "::ffff:127.0.0.1", socket.AF_INET6),
    ("::", "127.0.0.1", socket.AF_INET),
    ("::1", "::1", socket.AF_INET6),
]


@linux
@pytest.mark.parametrize(("server", "client", "family"), KINDS)
def test_the_other_end_is_found(server: str, client: str, family: socket.AddressFamily) -> None:
    with connected(server, client, family) as (asking, accepted):
        found = PeerSocket(os.getuid(), os.fstat(asking.fileno()).st_ino)
        assert peer_socket(*ends(accepted)) == found
        assert (peer_uid(*ends(accepted)), peer_inode(*ends(accepted))) == found


@linux
def test_the_other_end_is_found_wherever_the_table_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(*KINDS[0]) as (_, accepted):
        for piece in range(100, 300, 7):  # a row has some 150 bytes
            monkeypatch.setattr(sockets, "_PIECE", piece)
            assert peer_uid(*ends(accepted)) == os.getuid()


@linux
def test_a_peer_that_only_listens_on_is_found() -> None:
    with connected(*KINDS[0]) as (asking, accepted):
        asking.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        assert peer_uid(*ends(accepted)) == os.getuid()


@linux
def test_a_peer_that_has_closed_is_not_taken_for_root() -> None:
    with connected(*KINDS[0]) as (asking, accepted):
        there = ends(accepted)
        asking.close()
        assert accepted.recv(1) == b""
        assert peer_socket(*there) is None


@linux
def test_addresses_that_are_none_say_nothing() -> None:
    assert peer_socket(("a", 1), ("b", 2)) is None
    assert peer_socket(("",), ("127.0.0.1", 2)) is None


@linux
def test_a_table_that_is_missing_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(*KINDS[0]) as (_, accepted):
        there = ends(accepted)
        monkeypatch.setattr(sockets, "_needles", lambda *ends: [("/proc/net/none", b"")])
        assert peer_socket(*there) is None


ROW = b"   1: 0100007F:8F1E 0100007F:9625 01 00000000:00000000 00:00000000 00000000  1000        0 51743 1 0 20 4"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (ROW, PeerSocket(1000, 51743)),
        (ROW.replace(b"51743", b"0"), None),
        (ROW[:60], None),
        (ROW.replace(b"8F1E", b"8F1F"), None),
    ],
)
def test_a_row_tells_owner_and_inode(row: bytes, found: PeerSocket | None) -> None:
    content = b"  sl  local_address rem_address   st\n   0: 00000000:07E8 00000000:0000 0A\n" + row + b"\n"
    assert sockets.find_row(content, b" 0100007F:8F1E 0100007F:9625 ") == found


@pytest.mark.posix("there is no poll")
@pytest.mark.parametrize(("server", "client", "family"), KINDS)
def test_an_open_connection_is_not_closed(server: str, client: str, family: socket.AddressFamily) -> None:
    with connected(server, client, family) as (asking, accepted):
        assert not has_closed(accepted)
        asking.sendall(b"unread")
        assert not has_closed(accepted)


def fill(asking: socket.socket) -> None:
    asking.setblocking(False)
    try:
        while True:
            asking.send(bytes(1 << 20))
    except BlockingIOError:
        pass


@linux
@pytest.mark.parametrize(("server", "client", "family"), KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_a_close_behind_what_is_unread_is_seen(
    server: str, client: str, family: socket.AddressFamily, full: bool
) -> None:
    with connected(server, client, family) as (asking, accepted):
        fill(asking) if full else asking.sendall(b"unread")
        asking.close()
        assert has_closed(accepted)


@linux
def test_an_end_of_sending_counts_as_a_close() -> None:
    with connected(*KINDS[0]) as (asking, accepted):
        asking.sendall(b"unread")
        asking.shutdown(socket.SHUT_WR)
        assert has_closed(accepted)


@linux
def test_where_the_tables_show_nothing_no_close_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(*KINDS[0]) as (asking, accepted):
        fill(asking)
        asking.close()
        monkeypatch.setattr(sockets, "_read", lambda table: b"")
        assert not has_closed(accepted)

        def unreadable(table: str) -> bytes:
            raise PermissionError

        monkeypatch.setattr(sockets, "_read", unreadable)
        assert not has_closed(accepted)


@linux
def test_processes_that_have_a_socket_open_are_found() -> None:
    with connected(*KINDS[0]) as (asking, _):
        inode = os.fstat(asking.fileno()).st_ino
        assert pids_of_socket(inode) == [os.getpid()]
        command = [sys.executable, "-c", "print('runs', flush=True); input()"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[asking.fileno()]
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"runs\n"
            assert sorted(pids_of_socket(inode) or []) == sorted([os.getpid(), child.pid])
            assert pids_of_socket(inode, [child.pid, 2**30]) == [child.pid]
            assert sorted(pids_of_socket(inode, [2**30]) or []) == sorted([os.getpid(), child.pid])
            child.communicate(b"\n")
    assert pids_of_socket(inode) == []


@pytest.mark.skipif(sys.platform == "linux", reason="there it can be told")
def test_elsewhere_nothing_is_told() -> None:
    with connected(*KINDS[0]) as (asking, accepted):
        assert peer_socket(*ends(accepted)) is None
        assert peer_uid(*ends(accepted)) is None
        assert peer_inode(*ends(accepted)) is None
        assert pids_of_socket(os.fstat(asking.fileno()).st_ino, [os.getpid()]) is None


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_who_listens_is_found_by_the_port(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    except (OSError, ValueError):
        pytest.skip(f"can't listen on {host} here")
    with listening:
        port = listening.getsockname()[1]
        found = listener_on(port)
        assert found is not None and found.uid == os.getuid()
        assert pids_of_socket(found.inode) == [os.getpid()]
    assert listener_on(port) is None


@linux
def test_a_connection_on_the_port_is_no_listener() -> None:
    with connected("127.0.0.1", "127.0.0.1", socket.AF_INET) as (asking, _):
        assert listener_on(asking.getsockname()[1]) is None
