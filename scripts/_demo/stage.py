"""What every act needs: a screen to write on, and processes that are gone when the act is over, however it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from . import picture

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent  # of the environment that runs this, where leasecap is installed
COLOURS = {"good": "32", "bad": "31", "faint": "2", "strong": "1"}


class DemoError(Exception):
    """The demo could not show what it is there to show; the message says what happened."""


class Screen:
    """Standard output: colours when it is a terminal and NO_COLOR is unset, blocks when its encoding has them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._colours = self._terminal and not os.environ.get("NO_COLOR")
        try:
            "".join([*vars(picture.BLOCKS).values(), "▸✓✗"]).encode(out.encoding)
            self.ink, self.arrow, self.check = picture.BLOCKS, "▸", "✓"
        except UnicodeEncodeError:
            self.ink, self.arrow, self.check = picture.ASCII, ">", "ok:"
        self.width = min(80, max(40, shutil.get_terminal_size((80, 24)).columns))

    def paint(self, tone: str, text: str) -> str:
        return f"\033[{COLOURS[tone]}m{text}\033[0m" if self._colours and text else text

    def say(self, text: str = "", tone: str = "") -> None:
        print(self.paint(tone, text) if tone else text, file=self._out, flush=True)

    def heading(self, text: str) -> None:
        self.say(f"\n{self.arrow} {text}", "strong")

    def progress(self, text: str) -> None:
        """A line that the next one replaces; nothing where lines can't be replaced."""
        if self._terminal:
            print(f"\r\033[K{self.paint('faint', text)}", end="\r", file=self._out, flush=True)


class Stage:
    """The screen, a directory for logs and a root, and the processes of the demo. Leaving it ends and removes them."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.directory = Path(tempfile.mkdtemp(prefix="leasecap-demo-"))
        self._running: list[subprocess.Popen[str]] = []
        # The agents' environment is the caller's, less the caller's leasecap, and `python` and `leasecap` are ours.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("LEASECAP_")}
        self._environment["LEASECAP_HOME"] = str(self.directory / "root")
        self._environment["PATH"] = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

    def start(
        self, command: Sequence[str], log: Path | None = None, under: Sequence[str] = (), **variables: str
    ) -> subprocess.Popen[str]:
        """Start a command whose output goes to `log`, or else one to talk with through pipes.

        :param under: what stands before it, so that it runs on another machine.
        """
        with (log or Path(os.devnull)).open("w") as output:
            process = subprocess.Popen(
                [*under, str(BIN / command[0]), *command[1:]],
                cwd=HERE,
                env=self._environment | variables,
                stdin=subprocess.DEVNULL if log else subprocess.PIPE,
                stdout=output if log else subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,  # so that one signal ends it with all it started, and Ctrl-C reaches us alone
            )
        self._running.append(process)
        return process

    def start_all(
        self, count: int, name: str, command: Sequence[str], referee: Referee
    ) -> dict[Path, subprocess.Popen[str]]:
        """Start agents that ask the referee, each with a log of its own."""
        logs = [self.directory / f"{name}-{number}.log" for number in range(1, count + 1)]
        return {log: self.start(command, log, OPENAI_BASE_URL=referee.base_url) for log in logs}

    def configure(self, text: str, root: str = "root") -> str:
        """Write config.toml; returns the root's path."""
        path = self.directory / root
        path.mkdir(mode=0o700)
        (path / "config.toml").write_text(text)
        return str(path)

    def ask(self, command: Sequence[str], under: Sequence[str] = (), **variables: str) -> str:
        """What a command of ours prints."""
        argv = [*under, str(BIN / command[0]), *command[1:]]
        environment = self._environment | variables
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20)
        if done.returncode:
            raise DemoError(f"`{' '.join(command)}` exited with {done.returncode}:\n{done.stderr}")
        return done.stdout

    def see(self, command: Sequence[str], under: Sequence[str] = (), **variables: str) -> list[str]:
        """The lines of what a command of ours prints on a terminal that is a little narrower than the screen."""
        import pty
        import termios

        ours, its = pty.openpty()
        termios.tcsetwinsize(its, (100, self.screen.width - 4))
        argv = [*under, str(BIN / command[0]), *command[1:]]
        environment = self._environment | {"NO_COLOR": "1"} | variables
        with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=its, stderr=its):
            os.close(its)
            told = b""
            with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # EIO is a terminal's end
                while some := terminal.read(65536):
                    told += some
        return told.decode().rstrip().splitlines()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            left = [process for process in self._running if process.poll() is None]
            for process in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended just now; macOS says EPERM
                    os.killpg(process.pid, number)
            for process in left:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
        shutil.rmtree(self.directory, ignore_errors=True)


def check(agents: Mapping[Path, subprocess.Popen[str]], name: str) -> None:
    """Stop the demo if one of the agents, which have ended, failed."""
    for log, agent in agents.items():
        if agent.returncode:
            raise DemoError(f"in the {name} run an agent exited with {agent.returncode}:\n{log.read_text()}")


class Referee:
    """The provider in a process of its own, and what it has measured."""

    def __init__(self, stage: Stage, limit: int, seed: int, shortest: float = 0.3, longest: float = 1.0) -> None:
        """:param shortest: how many seconds an answer takes at least; ``longest``: at most."""
        options = {"limit": limit, "seed": seed, "shortest": shortest, "longest": longest}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = stage.start(["python", "provider.py", *words])
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        if not first.strip().isdigit():
            raise DemoError(f"the provider did not start:\n{first}{self._process.stdout.read()}")
        self._address = f"127.0.0.1:{int(first)}"
        self.base_url = f"http://{self._address}/v1"

    def measurements(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request("GET", "/measurements")
            found: dict[str, Any] = json.load(connection.getresponse())
        except OSError as error:
            raise DemoError(f"the provider is gone: {error}") from error
        finally:
            connection.close()
        return found
