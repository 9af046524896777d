"""A few machines on one: network namespaces on a bridge, with a hub beside them where a server can run.

Each namespace is kept by a process of ours and vanishes with it: no name is left, and the network of the real machine
is never touched. It works as root, and where others may make user namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

HUB = "10.77.0.1"
_KEEPER = "echo ready; exec cat"  # it ends when we do


class NoMachinesError(Exception):
    """This system can't have them; the message says what is missing."""


class Machines:
    """A hub and some machines; leaving the block ends all that keeps them.

    :ivar names: of the machines.
    """

    def __init__(self, *names: str, apart: bool = False) -> None:
        """:param apart: they don't see each other's processes either, and each has a name of its own."""
        self.names = names
        self._apart = ["--uts", "--pid", "--fork", "--kill-child", "--mount-proc"] if apart else []
        self._keepers: dict[str, subprocess.Popen[str]] = {}
        self._pids: dict[str, int] = {}
        self._delays: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """:raises NoMachinesError: when this system can't have them."""
        for program in ("unshare", "nsenter", "ip"):
            if shutil.which(program) is None:
                raise NoMachinesError(f"{program} is not installed (util-linux and iproute2 have it)")
        try:
            self._build()
        except BaseException:
            self.end()
            raise
        return self

    def _build(self) -> None:
        self._keep("hub", ["unshare", *([] if _is_root() else ["--user", "--map-root-user"]), "--net"])
        self._in("hub", "ip", "link", "set", "lo", "up")
        self._in("hub", "ip", "link", "add", "hub0", "type", "bridge")
        self._in("hub", "ip", "address", "add", f"{HUB}/24", "dev", "hub0")
        self._in("hub", "ip", "link", "set", "hub0", "up")
        for number, name in enumerate(self.names, 2):
            self._keep(name, [*self.under("hub"), "unshare", "--net", *self._apart])
            pid = str(self._pids[name])
            self._in("hub", "ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", pid)
            self._in("hub", "ip", "link", "set", f"to-{name}", "master", "hub0", "up")
            self._in(name, "ip", "link", "set", "lo", "up")
            self._in(name, "ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            self._in(name, "ip", "link", "set", "eth0", "up")

    def _keep(self, name: str, new: list[str]) -> None:
        keeper = self._keepers[name] = subprocess.Popen(
            [*new, "sh", "-c", _KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, process_group=0,
        )  # fmt: skip
        assert keeper.stdout is not None
        assert keeper.stderr is not None
        if keeper.stdout.readline() != "ready\n":
            raise NoMachinesError(f"no network namespace can be made: {keeper.stderr.read().strip()}")
        self._pids[name] = keeper.pid
        if name != "hub" and self._apart:
            children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
            self._pids[name] = int(children[0])
            self._in(name, "hostname", name)

    def under(self, name: str) -> list[str]:
        """What to put before a command that is to run on that machine, or the hub."""
        kinds = [] if _is_root() else ["--user", "--preserve-credentials"]
        kinds += ["--net"] if name == "hub" or not self._apart else ["--net", "--uts", "--pid", "--mount"]
        return ["nsenter", "--target", str(self._pids[name]), *kinds, "--"]

    def delay(self, milliseconds: int, port: int) -> str:
        """Have what goes between each machine and ``port`` of the hub take that long, there and back together.

        Returns the host by which the machines reach it from now on. The kernel does it (netem) where it can; else a
        process on each machine passes everything on late.
        """
        half = milliseconds / 2
        try:
            for name in self.names:
                for place, device in ((name, "eth0"), ("hub", f"to-{name}")):
                    self._in(place, "tc", "qdisc", "add", "dev", device, "root", "netem", "delay", f"{half:g}ms")
            return HUB
        except (NoMachinesError, FileNotFoundError):
            pass  # no tc, or a kernel without netem
        for name in self.names:
            relay = subprocess.Popen(
                [*self.under(name), sys.executable, Path(__file__).with_name("late.py"), HUB, str(port), f"{half}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0,
            )  # fmt: skip
            self._delays.append(relay)
            assert relay.stdout is not None
            if relay.stdout.readline() != "ready\n":
                raise NoMachinesError("what should delay the way to the server did not start")
        return "127.0.0.1"

    def pull(self, name: str) -> None:
        """Pull the machine's cable: nothing comes through, and no connection is told."""
        self._in("hub", "ip", "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Plug it in again."""
        self._in("hub", "ip", "link", "set", f"to-{name}", "up")

    def _in(self, name: str, *command: str) -> None:
        done = subprocess.run([*self.under(name), *command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise NoMachinesError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")

    def pids(self) -> set[int]:
        """The processes that keep them."""
        return {process.pid for process in (*self._keepers.values(), *self._delays)}

    def end(self) -> None:
        for process in (*self._delays, *reversed(self._keepers.values())):
            process.kill()
            process.communicate()

    def __exit__(self, *_: object) -> None:
        self.end()


def _is_root() -> bool:
    return os.geteuid() == 0
