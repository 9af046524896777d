"""Installing the clients, each in a folder of its own under build/agents, by the package managers of its source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .clients import Client

PATIENCE = 300.0  # seconds for one client
NPM_NEEDED = ("node", "npm")


class LacksError(Exception):
    """A client can't be had here; the message says why."""


def home_of(client: Client, build: Path) -> Path:
    """Where it is installed, or will be."""
    return build / f"{client.id}-{client.version}"


def programs_of(client: Client, build: Path) -> Path:
    """The folder of its commands."""
    home = home_of(client, build)
    return home / "node_modules" / ".bin" if client.source == "npm" else home / "bin"


def install(client: Client, build: Path) -> None:
    """Install it, unless that was done before.

    :raises LacksError: if it can't be.
    """
    if client.source == "npm" and (missing := [name for name in NPM_NEEDED if shutil.which(name) is None]):
        raise LacksError(f"{' and '.join(missing)} not found on PATH (apt install nodejs npm, or https://nodejs.org)")
    home = home_of(client, build)
    done = home / "installed.json"
    wanted = {"package": client.package, "version": client.version, "path": str(home), "python": sys.version}
    try:
        if json.loads(done.read_text()) == wanted:
            return
    except (OSError, ValueError):
        pass  # never installed, or not to its end
    print(f"installing {client.package} {client.version} into {os.path.relpath(home)} (once) ...", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if client.source == "npm":
        what = f"{client.package}@{client.version}"
        _run("npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--loglevel", "error", what)
    else:
        try:
            venv.create(home, symlinks=True, with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LacksError(f"no virtual environment could be made: {error}") from None
        pip = (str(home / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(*pip, f"{client.package}=={client.version}")
    done.write_text(json.dumps(wanted))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace", timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise LacksError(f"{command[0]} was not done after {PATIENCE:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.strip()] or ["nothing"]
        raise LacksError(f"{os.path.basename(command[0])} failed, and said: " + "\n  ".join(said[-5:]))
