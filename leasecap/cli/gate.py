"""`leasecap gate`: a slot per request for agents that are started elsewhere."""

from __future__ import annotations

import os
import sys

import click

from leasecap._errors import StoreError
from leasecap.cli._say import Verb

TYPE_CHECKING = False
assert not TYPE_CHECKING or sys.platform != "win32"  # there it only refuses, below

SHELLS = ("sh", "fish", "powershell")


def _usual_shell() -> str:
    name = os.path.basename(os.environ.get("SHELL", ""))
    return {"fish": "fish", "pwsh": "powershell"}.get(name, "sh")


@click.command("gate", cls=Verb)
@click.option("--port", type=click.IntRange(1, 65535), help="Of 127.0.0.1. [default: 4283]")
@click.option(
    "--env",
    "shell",
    type=click.Choice(SHELLS),
    is_flag=False,
    flag_value=_usual_shell(),
    help="Print what to set for the agents, as lines of that shell, and end. [default: as SHELL says]",
)
@click.option("--rotate", is_flag=True, help="Make a new token, and end: the addresses given out before are refused.")
def command(port: int | None, shell: str | None, rotate: bool) -> int:
    """Give each request of agents that are started elsewhere a slot: editors, desktop programs.

    Listens on 127.0.0.1 until a signal ends it. An agent finds it by its environment:

    \b
    eval "$(leasecap gate --env)"                                # in ~/.bashrc or ~/.zshrc
    leasecap gate --env fish | source                            # in ~/.config/fish/config.fish
    leasecap gate --env powershell | Out-String | iex            # in $PROFILE

    The addresses hold a token, which stays the same over restarts. A request to a pool without a limit passes
    unmetered, and that is told at the start.
    """
    if sys.platform == "win32":
        raise StoreError("`leasecap gate` was never tried on Windows", path=sys.platform, remedy="use the library here")
    if rotate or shell is not None:
        from leasecap.cli._gate_lines import give_out

        give_out(port, shell, rotate=rotate)
        return 0
    from leasecap.cli._standing_gate import serve

    return serve(port)
