"""`status --watch`: what makes it draw again, and the terminal, which it leaves as it found it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from children import await_stop
from commands import DEADLINE, environment, until

import leasecap
from leasecap._status.model import Status
from leasecap.cli import _watch

# Draws again for what a test is about, and for nothing else in its time.
QUIET = """
from leasecap.cli import _watch
_watch._TICK = _watch._READ_EVERY = 600.0
"""

MAIN = """
import sys
from leasecap.cli.main import main
sys.argv = ["leasecap", "status", "--watch"]
main()
"""

BLIND = """
class Blind:
    def __init__(self, *about, **more): pass
    def is_alive(self): return True
    def stop(self): pass
_watch.FileChanges = Blind
"""

ENTERS, LEAVES = "\x1b[?1049h", "\x1b[?1049l"


class Watching:
    """A `status --watch` into a pipe, picture by picture."""

    def __init__(self, code: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code + MAIN], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._unread = ""

    def picture(self) -> str:
        """The next one."""
        assert self.process.stdout is not None
        end = time.monotonic() + DEADLINE
        while (found := re.search(r"root .*?\n\n(?=root |$)", self._unread, re.DOTALL)) is None:
            assert select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0], "no picture"
            data = os.read(self.process.stdout.fileno(), 65536).decode()
            assert data, "it ended"
            self._unread += data
        self._unread = self._unread[found.end() :]
        return found[0]

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def watch() -> Iterator[Callable[[str], Watching]]:
    started: list[Watching] = []

    def start(code: str) -> Watching:
        started.append(Watching(code))
        return started[-1]

    yield start
    for each in started:
        each.end()


def test_watch_draws_at_once_when_something_changes(watch: Callable[[str], Watching]) -> None:
    leasecap.acquire("p", limit=1).release()
    watching = watch(QUIET)
    assert "p  0 in flight" in watching.picture()
    with leasecap.acquire("p", limit=1, label="the holder"):
        while "the holder" not in watching.picture():
            pass  # pytest's own time-out ends this
    while "the holder" in watching.picture():
        pass


def test_watch_takes_heartbeats_for_no_change(root: Path, watch: Callable[[str], Watching]) -> None:
    root.mkdir(mode=0o700)
    config = root / "config.toml"
    config.write_text("[pools.p]\nlimit = 1\nheartbeat = 0.02\nstale_after = 3\n")
    with leasecap.acquire("p", label="the holder"):
        watching = watch(QUIET)
        while "the holder" not in watching.picture():
            pass
        (alive,) = root.glob("pools/*/leases/*/alive")
        beats = set[int]()
        until(lambda: beats.add(alive.stat().st_mtime_ns) or len(beats) > 10)  # type: ignore[func-returns-value]
        aside = root / ".config.toml"
        aside.write_text(config.read_text().replace("limit = 1", "limit = 7"))
        aside.rename(config)
        assert "p  1/7 in flight" in watching.picture(), "the first picture after those beats"


def test_watch_draws_ten_times_a_second_at_most(watch: Callable[[str], Watching]) -> None:
    leasecap.acquire("p", limit=1).release()  # there is something to observe
    watching = watch(QUIET)
    watching.picture()
    began = time.monotonic()
    while time.monotonic() < began + 2.0:
        leasecap.acquire("p", limit=1).release()
    watching.picture()
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.stdout is not None
    rest = watching._unread + watching.process.stdout.read().decode()
    pictures = 1 + rest.count("root ")
    assert pictures <= (time.monotonic() - began) * 10 + 1


def test_watch_moves_ages_without_reading(watch: Callable[[str], Watching]) -> None:
    code = """
from leasecap.cli import status as verb
look, looks = verb._look, []
def counted(pools, latency):
    looks.append(pools)
    assert len(looks) == 1, "it has read again"
    return look(pools, latency)
verb._look = counted
"""
    with leasecap.acquire("p", limit=1, label="the holder"):
        watching = watch(QUIET + "_watch._TICK = 0.05\n" + code)
        ages = {_row(watching.picture())[2] for _ in range(20)}
    assert len(ages) > 3


def _row(picture: str) -> list[str]:
    return next(line.split() for line in picture.splitlines() if "the holder" in line)


def test_watch_reads_all_now_and_then_where_nothing_is_seen(watch: Callable[[str], Watching]) -> None:
    watching = watch(QUIET + "_watch._READ_EVERY = 0.2\n" + BLIND)
    watching.picture()
    with leasecap.acquire("p", limit=1, label="the holder"):
        while "the holder" not in watching.picture():
            pass


@pytest.mark.parametrize(
    ("phase", "seconds"), [("sent", _watch._TICK), ("streaming", _watch._READ_EVERY), (None, _watch._READ_EVERY)]
)
def test_watch_reads_at_each_tick_while_an_answer_is_awaited(phase: str | None, seconds: float) -> None:
    request = SimpleNamespace(phase=phase) if phase else None
    found = SimpleNamespace(pools=[SimpleNamespace(holders=[SimpleNamespace(request=request)])])
    watching = _watch._Watching(lambda: found)  # type: ignore[arg-type,return-value]
    watching._changes = SimpleNamespace(is_alive=lambda: True, stop=lambda: None)  # type: ignore[assignment]

    shown = SimpleNamespace(ended=None, resized=False)

    def show(_: object) -> None:
        assert watching._interval() == seconds
        shown.ended = signal.SIGTERM

    with watching._asleep, watching._rouse:
        watching.run(show, shown)  # type: ignore[arg-type]


def test_watch_without_an_observer_reads_at_each_tick(watch: Callable[[str], Watching]) -> None:
    refused = """
def refuse(*about, **more): raise OSError(24, "inotify instance limit reached")
_watch.FileChanges = refuse
"""
    watching = watch(QUIET + "_watch._TICK = 0.2\n" + refused)
    watching.picture()
    with leasecap.acquire("p", limit=1, label="the holder"):
        while "the holder" not in watching.picture():
            pass


def test_watch_of_a_root_that_is_not_there_yet_sees_it_made(root: Path, watch: Callable[[str], Watching]) -> None:
    watching = watch("")
    assert "No pool yet" in watching.picture()
    assert not root.exists()
    with leasecap.acquire("p", limit=1, label="the holder"):
        while "the holder" not in watching.picture():
            pass


# -- terminals --------------------------------------------------------------------------------------------------------


class Screen:
    """A `status --watch` on a terminal of its own, in its foreground."""

    def __init__(self, code: str, env: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self.resize(24, 80)
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + code + MAIN],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment(**{"TERM": "xterm", **env}),
        )
        os.close(slave)
        self.seen = ""

    def read(self, until: str) -> str:
        """Read on until this appears; returns all that was read since the last time."""
        end = time.monotonic() + DEADLINE
        begin = len(self.seen)
        while until not in self.seen[begin:]:
            assert select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0], self.seen[begin:]
            self.seen += os.read(self._master, 65536).decode()
        return self.seen[begin:]

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def rest(self) -> str:
        """What it writes to its end."""
        begin = len(self.seen)
        try:
            while data := os.read(self._master, 65536):
                self.seen += data.decode()
        except OSError:
            pass  # the last one has closed it
        return self.seen[begin:]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._master)


@pytest.fixture
def screen() -> Iterator[Callable[..., Screen]]:
    started: list[Screen] = []

    def start(code: str = "", **env: str) -> Screen:
        started.append(Screen(code, env))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize(("keys", "signum"), [(b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT)])
def test_watch_leaves_the_terminal_as_it_was_at_a_key(screen: Callable[..., Screen], keys: bytes, signum: int) -> None:
    shown = screen("import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n")
    assert shown.read("No pool yet").index(ENTERS) < 10
    shown.type(keys)
    assert shown.rest().rstrip("^C\\").endswith(LEAVES)
    assert shown.process.wait(DEADLINE) == -signum


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_watch_leaves_the_terminal_as_it_was_at_a_signal(screen: Callable[..., Screen], signum: int) -> None:
    shown = screen()
    shown.read("No pool yet")
    shown.process.send_signal(signum)
    assert shown.rest().endswith("\x1b[?25h" + LEAVES)
    assert shown.process.wait(DEADLINE) == -signum


@pytest.mark.timeout(20)
def test_a_signal_in_any_line_of_the_loop_ends_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_watch, "_TICK", 0.01)
    monkeypatch.setattr(_watch, "_READ_EVERY", 0.01)
    looks = 0

    def look() -> Status:
        nonlocal looks
        looks += 1
        shown.ended = signal.SIGTERM if looks == 3 else None
        return Status(1, "", "", (), None)

    def as_a_signal_would(frame: object, event: str, arg: object) -> object:
        watching.wake()
        return as_a_signal_would

    shown = SimpleNamespace(ended=None, resized=False)
    watching = _watch._Watching(look)
    before = sys.gettrace()
    sys.settrace(as_a_signal_would)  # type: ignore[arg-type]
    try:
        watching.run(lambda found: None, shown)  # type: ignore[arg-type]
    finally:
        sys.settrace(before)
        watching._asleep.close()
        watching._rouse.close()
    assert looks == 3


def test_watch_leaves_the_terminal_as_it_was_at_an_error(screen: Callable[..., Screen]) -> None:
    code = """
from leasecap.cli import _watch, status as verb
_watch._TICK = _watch._READ_EVERY = 0.05
look, looks = verb._look, []
def failing(pools, latency):
    looks.append(pools)
    if len(looks) > 2:
        raise RuntimeError("the disk is on fire")
    return look(pools, latency)
verb._look = failing
"""
    shown = screen(code)
    assert shown.rest().endswith(LEAVES)
    assert shown.process.stderr is not None
    assert b"the disk is on fire" in shown.process.stderr.read()


def test_watch_leaves_an_ignored_signal_ignored(screen: Callable[..., Screen]) -> None:
    shown = screen("import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
    shown.read("No pool yet")
    shown.process.send_signal(signal.SIGHUP)
    leasecap.acquire("p", limit=1).release()
    shown.read("p\x1b[0m")
    shown.process.send_signal(signal.SIGTERM)
    assert shown.process.wait(DEADLINE) == -signal.SIGTERM


def test_watch_stops_at_the_shells_screen_and_comes_back(screen: Callable[..., Screen]) -> None:
    # Nobody could continue a group without a parent in its session, so that is never stopped.
    job = """
import os, sys
if (pid := os.fork()):
    sys.exit(os.waitpid(pid, 0)[1])
os.setpgid(0, 0)
print("pid", os.getpid(), flush=True)
"""
    shown = screen(job)
    pid = int(re.findall(r"pid (\d+)", shown.read("No pool yet"))[0])
    os.kill(pid, signal.SIGTSTP)
    shown.read(LEAVES)
    await_stop(pid)
    os.kill(pid, signal.SIGCONT)
    assert "root" in shown.read(ENTERS) + shown.read("No pool yet")
    os.kill(pid, signal.SIGTERM)
    assert LEAVES in shown.rest()


@pytest.fixture
def held() -> Iterator[Callable[[int], None]]:
    """Takes so many slots until the end of the test."""
    leases: list[leasecap.Lease] = []

    def hold(many: int) -> None:
        leases.extend(leasecap.acquire("p", limit=many, label=f"agent {number}") for number in range(many))

    yield hold
    for lease in leases:
        lease.release()


def test_watch_follows_the_size_of_its_window(screen: Callable[..., Screen], held: Callable[[int], None]) -> None:
    held(30)
    shown = screen(QUIET, LINES="24", COLUMNS="80")  # which say nothing of a window that is resized
    shown.read("... 10 more")
    shown.resize(12, 40)
    frame = shown.read("... 22 more")
    lines = frame[frame.rindex("\x1b[H") :].replace("\r", "").split("\n")
    assert len(lines) == 12
    assert max(len(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)) for line in lines) == 40, lines
    shown.resize(60, 120)
    shown.read("agent 29")


def test_watch_on_a_dumb_terminal_is_plain_text(screen: Callable[..., Screen]) -> None:
    shown = screen(TERM="dumb")
    assert "\x1b" not in shown.read("No pool yet")
    shown.type(b"\x03")
    assert "\x1b" not in shown.rest()
    assert shown.process.wait(DEADLINE) == -signal.SIGINT


def test_watch_fits_61_leases_and_leaves_no_scrollback(tmp_path: Path, held: Callable[[int], None]) -> None:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    held(61)
    tmux = ["tmux", "-S", str(tmp_path / "tmux"), "-f", "/dev/null"]

    def ask(*words: str) -> str:
        return subprocess.run([*tmux, *words], capture_output=True, text=True, check=True, env=environment()).stdout

    command = f"trap : INT; echo before; {sys.executable} -m leasecap status --watch; echo status $?; exec cat"
    ask("new-session", "-d", "-x", "80", "-y", "24", "-s", "w", "sh", "-c", command)
    try:
        until(lambda: "... 41 more" in ask("capture-pane", "-p"))
        lines = ask("capture-pane", "-p").splitlines()
        assert lines[1].startswith("p  61/61 in flight")
        assert lines[23] == "  ... 41 more"
        before = lines[3]
        until(lambda: ask("capture-pane", "-p").splitlines()[3] != before)  # the ages move
        assert ask("display", "-p", "#{history_size} #{alternate_on} #{cursor_flag}").split() == ["0", "1", "0"]
        ask("resize-window", "-x", "60", "-y", "10")
        until(lambda: ask("capture-pane", "-p").splitlines()[9:] == ["  ... 55 more"])
        ask("send-keys", "C-c")
        until(lambda: "status 130" in ask("capture-pane", "-p"))
        assert ask("capture-pane", "-p").split()[:3] == ["before", "status", "130"]
        assert ask("display", "-p", "#{alternate_on} #{cursor_flag}").split() == ["0", "1"]
    finally:
        ask("kill-server")
