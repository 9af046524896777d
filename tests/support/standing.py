"""`leasecap gate`, and raw requests to it."""

from __future__ import annotations

import socket

from commands import DEADLINE, run, start
from gated import Gated, environment_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from provider import Provider


def free_port() -> int:
    """A port that a gate can have, and that the system gives to nobody else while this process runs."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    _reserved.append(reserved)  # bound, and not listening: whoever asks for this very port gets it
    return int(reserved.getsockname()[1])


_reserved: list[socket.socket] = []


def lines_of(*options: str, **more: str) -> dict[str, str]:
    """What ``leasecap gate --env sh`` has to set."""
    done = run("gate", "--env", "sh", *options, **({"env": more} if more else {}))
    assert done.returncode == 0, done.stderr
    words = [line.removeprefix("export ").partition("=") for line in done.stdout.splitlines() if line[0] != "#"]
    return {name: text.strip("'") for name, _, text in words}


class Standing(Gated):
    """Serves while its block lasts; its providers are the fake one.

    :ivar said: what it said at its start.
    """

    def __init__(
        self, provider: Provider, port: int | None = None, *, base: str = "", said: int = 2, **more: str
    ) -> None:
        """:param base: the path of the provider's base URL.

        :param said: how many lines it says at its start.
        """
        self.environ = environment_of(provider, base, **more)
        self.port = port or free_port()
        self.process = start("gate", "--port", str(self.port), env=self.environ)
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline() for _ in range(said)]
        self.learn()

    def learn(self) -> Self:
        """The address as `--env` has it now."""
        seen = {name: text for name, text in self.environ.items() if not name.endswith("_BASE_URL")}
        self._reach(lines_of("--port", str(self.port), **seen))
        return self

    def await_end(self) -> tuple[int, str]:
        """Its exit status, and what it said since its start."""
        _, said = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said
