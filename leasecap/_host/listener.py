"""The socket that a gate listens on."""

from __future__ import annotations

import socket
import sys

_BACKLOG = 1024


def listen(port: int = 0) -> socket.socket:
    """A socket that listens on 127.0.0.1; with port 0 on any that is free.

    :raises OSError: EADDRINUSE when somebody listens there already.
    """
    # `create_server` leaves the protocol open, and asyncio turns Nagle's algorithm off only where it is named: each
    # answer of two pieces would wait for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if port and sys.platform != "win32":  # where two could have the port; here connections may have ended on it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener
