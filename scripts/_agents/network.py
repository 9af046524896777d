"""A network of the script's own: nothing is in it but this machine, and every name that is looked up is seen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

# Every address is one of this machine, so that a question to whatever name server is set up comes to `Lookups`, and who
# connects to an address that it knows by heart is refused.
_SET_UP = 'ip link set lo up && ip route add local default dev lo && exec "$@"'
_ENTER = ("unshare", "--user", "--map-root-user", "--net", "--", "sh", "-c", _SET_UP, "sh")

_HEAD = 12  # bytes before the first question of a DNS message
_NO_SUCH_NAME = b"\x81\x83"
_ASKED = "a-name-that-only-this-script-asks-for.example"


def reason_against() -> str:
    """Why there can't be such a network here; "" if there can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if missing := [name for name in ("unshare", "ip") if shutil.which(name) is None]:
        return f"{' and '.join(missing)} not found on PATH (apt install util-linux iproute2)"
    trial = subprocess.run([*_ENTER, "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return (trial.stderr.strip() or "it failed") if trial.returncode else ""


def enter(command: Sequence[str]) -> None:
    """Become ``command`` in a network of its own."""
    os.execvp(_ENTER[0], [*_ENTER, *command])


class Lookups:
    """A name server for the whole network: it knows no name, and keeps those that it is asked for.

    :ivar names: all that came, in lower case.
    :ivar address: where it listens.
    """

    def __init__(self, address: tuple[str, int] = ("0.0.0.0", 53)) -> None:
        self.names: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self.address: tuple[str, int] = self._socket.getsockname()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def works(self) -> bool:
        """Whether lookups of this machine's programs come here."""
        try:
            socket.getaddrinfo(_ASKED, 443)
        except OSError:
            pass  # as it must be
        return _ASKED in self.names

    def _serve(self) -> None:
        while True:
            try:
                message, peer = self._socket.recvfrom(4096)
            except OSError:
                return  # closed
            end = _HEAD
            labels = []
            while end < len(message) and (length := message[end]):
                labels.append(message[end + 1 : end + 1 + length].decode("latin-1").lower())
                end += 1 + length
            self.names.append(".".join(labels))
            question = message[_HEAD : end + 5]
            self._socket.sendto(message[:2] + _NO_SUCH_NAME + b"\0\1\0\0\0\0\0\0" + question, peer)
