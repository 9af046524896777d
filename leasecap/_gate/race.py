"""A socket that is connected to whichever of a host's addresses takes it first (RFC 8305).

asyncio does the same, but can lose the socket that won: its race is over some turns of the loop before whoever asked
goes on, and when that is cancelled in between, nothing closes the socket. A cycle of references keeps it then until the
collector comes by, which in a gate that idles is never.
"""

from __future__ import annotations

import asyncio
import socket
from itertools import zip_longest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NEXT_ADDRESS_AFTER = 0.25
"""Seconds after which the next address is tried as well: a network may lead IPv6 nowhere."""


async def connected(host: str, port: int) -> socket.socket:
    """Connect to it; when this is cancelled no connection stays.

    :raises OSError: when no address takes it: what the first one said.
    """
    addresses = _in_turn(await _addresses(host, port))
    loop, attempts = asyncio.get_running_loop(), set[asyncio.Task[socket.socket]]()
    first_error: BaseException | None = None
    try:
        while addresses or attempts:
            if addresses:
                attempts.add(loop.create_task(_connect(*addresses.pop(0))))
            patience = _NEXT_ADDRESS_AFTER if addresses else None
            done, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                attempts.discard(each)
                error = each.exception()
                if error is None:
                    return each.result()
                first_error = first_error or error
    finally:
        for each in attempts:
            each.cancel()
            each.add_done_callback(_close)
    raise first_error or OSError("no address")


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what it may have connected before it could be cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(family: int, kind: int, protocol: int, _: str, address: Any) -> socket.socket:
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _addresses(host: str, port: int) -> list[Any]:
    for family, address in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, socket.SOCK_STREAM, 0, "", address)]  # without a look-up, each of which takes a thread
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


def _in_turn(found: list[Any]) -> list[Any]:
    """One of each family after the other: where a family leads nowhere, that costs a single wait."""
    families: dict[int, list[Any]] = {}
    for each in found:
        families.setdefault(each[0], []).append(each)
    return [each for turn in zip_longest(*families.values()) for each in turn if each is not None]
