"""`leasecap run --per-request` round a command that only says how its gate is reached, and raw requests to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

from commands import DEADLINE, environment, start
from provider_steps import CRLF
from raw_http import Raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from provider import Provider
    from raw_http import Answer

# Says its environment, and ends with its standard input.
COMMAND = "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
POOL = "p"


def environment_of(provider: Provider, base: str = "", **more: str) -> dict[str, str]:
    """That of a ``leasecap`` whose command has ``provider`` for all providers; no proxy in between."""
    proxies = {name for each in PROXIES for name in (each, each.lower())}
    given = environment(ANTHROPIC_BASE_URL=provider.url + base, OPENAI_BASE_URL=f"{provider.url}/v1") | more
    return {name: value for name, value in given.items() if name not in proxies}


class Gated:
    """The wrapper's process while its block lasts.

    :ivar seen: the command's environment.
    :ivar port, token: of the gate.
    """

    def __init__(self, provider: Provider, *options: str, limit: int = 1, base: str = "", **more: str) -> None:
        """:param options: of ``leasecap run``.

        :param base: the path of the provider's base URL.
        :param more: for the environment of ``leasecap``.
        """
        self.process = start(
            *("run", "--per-request", "-p", POOL, "--limit", str(limit), *options),
            *("--", sys.executable, "-c", COMMAND),
            stdin=subprocess.PIPE,
            env=environment_of(provider, base, **more),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.kill()
            raise AssertionError(self.process.communicate()[1])
        self._reach(json.loads(line))

    def _reach(self, seen: dict[str, str]) -> None:
        """Find out how the gate is reached, by the command's environment."""
        self.seen = seen
        url = urlsplit(self.seen["ANTHROPIC_BASE_URL"])
        assert url.hostname == "127.0.0.1" and url.port is not None, self.seen["ANTHROPIC_BASE_URL"]
        self.port = url.port
        self.token, name = url.path.strip("/").split("/")[:2]
        assert name == "anthropic", url.path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> tuple[int, str]:
        """Let the command end; returns the wrapper's exit status, and what it said on standard error."""
        _, said = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said

    def connect(self, deadline: float = DEADLINE) -> Raw:
        return Raw(self.port, deadline=deadline)

    @property
    def host(self) -> bytes:
        return b"Host: 127.0.0.1:%d" % self.port

    def target(self, target: bytes = b"/v1/messages", name: bytes = b"anthropic") -> bytes:
        """As a client of this run writes it."""
        return b"/%b/%b%b" % (self.token.encode(), name, target)

    def request(
        self,
        method: bytes = b"POST",
        target: bytes = b"/v1/messages",
        *lines: bytes,
        body: bytes | None = b"{}",
        name: bytes = b"anthropic",
    ) -> bytes:
        """A request's bytes; ``lines`` come after the Host."""
        return self.asking(b"%b %b HTTP/1.1" % (method, self.target(target, name)), self.host, *lines, body=body)

    def asking(self, *lines: bytes, body: bytes | None = b"{}") -> bytes:
        """A request's bytes, all lines of its head as they are given; a body brings its content-length."""
        length = () if body is None else (b"Content-Length: %d" % len(body),)
        return CRLF.join([*lines, *length, b"", body or b""])

    def ask(
        self, method: bytes = b"POST", target: bytes = b"/v1/messages", *lines: bytes, body: bytes | None = b"{}"
    ) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.ask(self.request(method, target, *lines, body=body))


def configure(root: Path, text: str) -> None:
    """For the pool of the command's own provider; before the gate is started."""
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f"[pools.{POOL}]\n{text}")


def files_with(root: Path, secret: bytes) -> list[Path]:
    """Which files under ``root`` hold it."""
    found = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in found if os.access(path, os.R_OK) and secret in path.read_bytes()]
