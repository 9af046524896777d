"""A terminal on which a command runs under `leasecap run --per-request`, as people run it."""

from __future__ import annotations

import json
import shlex
import sys

from commands import PROGRAM, environment, until
from gated import POOL, PROXIES, Gated
from terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from provider import Provider

# Writes down its environment, says that it has begun, and ends with a line that is typed.
COMMAND = """
import json, os, sys
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(dict(os.environ), file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
print("begin", flush=True)
sys.stdin.readline()
print("end", flush=True)
"""


class GatedTerminal(Gated):
    """The terminal while its block lasts, with the command in its foreground.

    :ivar screen: the terminal.
    """

    def __init__(self, provider: Provider, folder: Path, *options: str, limit: int = 1, **more: str) -> None:
        """:param folder: for a file by which the command is found."""
        proxies = {name for each in PROXIES for name in (each, each.lower())}
        given = environment(ANTHROPIC_BASE_URL=provider.url, LC_ALL="C") | more
        self.screen = Terminal({name: value for name, value in given.items() if name not in proxies})
        seen = folder / "seen.json"
        run = (*PROGRAM, "run", "--per-request", "-p", POOL, "--limit", str(limit), *options)
        self.screen.type(shlex.join([*run, "--", sys.executable, "-c", COMMAND, str(seen)]) + "\n")
        until(seen.exists)
        self._reach(json.loads(seen.read_text()))
        self.screen.expect("begin\r\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.screen.close()
