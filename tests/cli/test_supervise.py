"""The command under `leasecap run`: signals, job control, and how it ends. Everything happens in child processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from places import IMPORTABLE
from terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SH = "/bin/sh"

# `leasecap run` without a lease. QUEUE names a FIFO: wait in the queue until somebody opens it for writing. BUSY names
# one, too: until then do something else than wait, and be woken. HOOK is code to run before the command is supervised.
DRIVER = """
import os, sys, threading
from leasecap.cli import _signals
from leasecap.cli._supervise import *
env = os.environ
if "HOOK" in env:  # not where the working directory is gone: Python 3.13.0 can't import socket there
    from children import await_continue, await_exit, await_stop
if env["MECHANISM"] == "pipe":
    from leasecap.cli._signal_pipe import SignalSource
    _signals.SignalSource = SignalSource
def say(text): os.write(2, (text + "\\n").encode())
gate = _signals.SignalGate()
inherit = os.open(env["INHERIT"], os.O_RDONLY) if "INHERIT" in env else None
try:
    if "QUEUE" in env:
        granted = []
        def watch():
            open(env["QUEUE"]).close()
            granted.append(True)
            gate.wake()
        threading.Thread(target=watch, daemon=True).start()
        say("QUEUED")
        while not granted:
            gate.wait()
    if "BUSY" in env:
        say("BUSY")
        open(env["BUSY"]).close()
        gate.wake()
        say("DONE")
    child = spawn(gate, sys.argv[1:], env, inherit)
    if inherit is not None:
        os.fstat(inherit)
        assert not os.path.exists("/dev/fd/10"), "a second descriptor keeps the lock after the first is closed"
    exec(env.get("HOOK", ""))
    outcome = supervise(gate, child)
except _signals.Interrupted as e:
    say(f"WITHDRAWN {e.signum}")
    outcome = Outcome(signal=e.signum)
except SpawnError as e:
    say(str(e))
    outcome = Outcome(exit_status=e.status)
sys.exit(die_like(outcome))
"""

# A command that says which signals it gets, in order, and ends at SIGTERM.
TELL = """
import os, signal, sys
wanted = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGTERM,
          signal.SIGCONT, signal.SIGWINCH}
for signum in wanted:
    signal.signal(signum, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
if "own-group" in sys.argv:
    os.setpgid(0, 0)
print("READY", os.getpid(), os.getppid(), flush=True)
got = 0
while got != signal.SIGTERM:
    got = signal.sigwait(wanted)
    print("GOT", signal.Signals(got).name, flush=True)
    if "group" in sys.argv and got == signal.SIGUSR1:
        os.kill(0, signal.SIGINT)
sys.exit(5)
"""


@pytest.fixture(params=["siginfo", "pipe"])
def mechanism(request: pytest.FixtureRequest) -> str:
    if request.param == "siginfo" and sys.platform != "linux":
        pytest.skip("who sent a signal is known on Linux alone")
    return str(request.param)


@pytest.fixture
def env(mechanism: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": IMPORTABLE, "MECHANISM": mechanism, "LC_ALL": "C"}


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


class Wrapped:
    """The driver with a command under it, in a process group of its own that is not orphaned."""

    def __init__(
        self, env: dict[str, str], *command: str, before: tuple[str, ...] = (), session: bool = False, cwd: str = "/"
    ) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", DRIVER, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            process_group=None if session else 0,
            start_new_session=session,
            cwd=cwd,
        )
        self.pid = self.process.pid

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ready(self) -> int:
        """Wait for TELL to be ready; its pid."""
        word, pid, _ = self.line().split()
        assert word == "READY"
        return int(pid)

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate()
        return self.process.returncode, out

    def stops_or_ends(self) -> int:
        """Wait for it to stop, and return by which signal; 0 if it ends instead."""
        _, report = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(report):
            return os.WSTOPSIG(report)
        self.process.returncode = os.waitstatus_to_exitcode(report)
        return 0

    def clear_away(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def wrap(env: dict[str, str]) -> Iterator[Callable[..., Wrapped]]:
    made: list[Wrapped] = []

    def make(*command: str, before: tuple[str, ...] = (), session: bool = False, cwd: str = "/") -> Wrapped:
        made.append(Wrapped(env, *command, before=before, session=session, cwd=cwd))
        return made[-1]

    yield make
    for each in made:
        each.clear_away()


def open_for_writing(fifo: str) -> None:
    with open(fifo, "w"):
        pass


def tell(*arguments: str) -> tuple[str, ...]:
    return sys.executable, "-c", TELL, *arguments


def with_signal(action: str, *signums: int) -> tuple[str, ...]:
    """A command that ignores or blocks signals and then becomes what follows it."""
    do = {
        "ignore": "[signal.signal(s, signal.SIG_IGN) for s in s]",
        "block": "signal.pthread_sigmask(signal.SIG_BLOCK, s)",
    }[action]
    code = f"import os, signal, sys; s = {list(map(int, signums))}; {do}; os.execv(sys.argv[1], sys.argv[1:])"
    return sys.executable, "-c", code


# How it ends


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_exit_status_is_the_commands_own(wrap: Callable[..., Wrapped], env: dict[str, str], status: int) -> None:
    assert wrap(SH, "-c", f"exit {status}").end()[0] == status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ])
def test_a_command_ended_by_a_signal_is_seen_to_end_by_that_signal(
    wrap: Callable[..., Wrapped], env: dict[str, str], signum: int
) -> None:
    # SIGPIPE and SIGXFSZ: Python ignores both, and a command that inherits that can't be ended by them.
    assert wrap(SH, "-c", f"kill -{int(signum)} $$").end()[0] == -signum


def test_only_the_command_dumps_core(wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path) -> None:
    if sys.platform == "linux" and Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("core dumps go elsewhere on this machine")
    unlimited = (SH, "-c", 'ulimit -c unlimited && exec "$0" "$@"')
    wrapped = wrap(SH, "-c", "ulimit -c 0; kill -QUIT $$", before=unlimited, cwd=str(tmp_path))
    assert wrapped.end()[0] == -signal.SIGQUIT
    assert list(tmp_path.iterdir()) == []


def test_the_first_process_of_a_container_which_no_signal_can_kill_exits_with_128_and_more(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    unshare = ("unshare", "--pid", "--fork", "--kill-child")
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("may not make a pid namespace here")
    assert wrap(SH, "-c", "kill -TERM $$", before=unshare).end()[0] == 128 + signal.SIGTERM


# How it starts


def test_a_command_is_looked_for_along_the_path_it_will_see(
    wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hello").write_text("#!/bin/sh\necho from $0\n")
    (tmp_path / "hello").chmod(0o755)
    (tmp_path / "denied").mkdir()
    (tmp_path / "denied" / "hello").write_text("")
    hook_env = f"env = {{'PATH': '/nowhere:{tmp_path}/denied:{tmp_path}'}}"
    # The driver's own PATH stays as it is: only what is handed to `spawn` counts.
    driver = DRIVER.replace("    child = spawn(", f"    {hook_env}\n    child = spawn(")
    done = subprocess.run([sys.executable, "-c", driver, "hello"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"from {tmp_path}/hello\n")


def test_what_cannot_be_started_is_told_apart(
    wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path
) -> None:
    def make(name: str, text: str, mode: int) -> str:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
        return str(tmp_path / name)

    env["PATH"] = f"/nowhere:{tmp_path}"
    make("denied", "", 0o644)
    for command, status, message in [
        ("missing", 127, "'missing': command not found in PATH"),
        ("./missing", 127, "'./missing': No such file or directory"),
        ("", 127, "'': command not found in PATH"),
        ("denied", 126, f"cannot execute '{tmp_path}/denied': Permission denied"),
        (str(tmp_path), 126, f"cannot execute '{tmp_path}': Is a directory"),
        (f"{tmp_path}/denied/x", 126, "Not a directory"),
        (make("bare", "echo no first line", 0o755), 126, "a script needs a #! line"),
        (make("orphan", "#!/no/such/thing -x\n", 0o755), 127, "its interpreter '/no/such/thing' is missing"),
        (make("dos", "#!/bin/sh\r\n", 0o755), 127, r"its interpreter '/bin/sh\r' is missing"),
        ("dos", 127, r"its interpreter '/bin/sh\r' is missing"),
    ]:
        got, out = wrap(command).end()
        assert (got, message in out) == (status, True), (command, out)


def test_a_command_that_only_the_current_directory_has_is_not_found_in_path(
    wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path
) -> None:
    env["PATH"] = "/nowhere"
    (tmp_path / "claude").mkdir()
    status, out = wrap("claude", cwd=str(tmp_path)).end()
    assert (status, out) == (127, "leasecap: 'claude': command not found in PATH\n")


def test_a_command_named_from_a_directory_that_was_removed_says_so(
    wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    status, out = wrap("./x", before=(SH, "-c", 'rmdir "$PWD" && exec "$0" "$@"'), cwd=str(gone)).end()
    assert (status, "the current directory no longer exists" in out) == (127, True), out


def test_the_lock_descriptor_and_no_other_is_inherited_on_a_number_over_9(
    wrap: Callable[..., Wrapped], env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "alive").touch()
    env["INHERIT"] = str(tmp_path / "alive")
    listing = (
        "import os\n"
        "def name(fd):\n"
        "    try: return os.fstat(fd).st_ino\n"
        "    except OSError: return None\n"
        "print([(fd, name(fd)) for fd in range(3, 64) if name(fd) is not None])"
    )
    status, out = wrap(sys.executable, "-c", listing).end()
    assert (status, out) == (0, f"[(10, {(tmp_path / 'alive').stat().st_ino})]\n")


def test_the_command_gets_the_signal_mask_that_leasecap_was_started_with(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    show = "import signal; print(sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    blocked = [signal.SIGTERM, signal.SIGUSR1]
    assert wrap(sys.executable, "-c", show).end() == (0, "[]\n")
    started_so = wrap(sys.executable, "-c", show, before=with_signal("block", *blocked))
    assert started_so.end() == (0, f"{sorted(map(int, blocked))}\n")


def test_an_exit_status_is_not_lost_where_the_parent_ignored_sigchld(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    status, out = wrap(SH, "-c", "exit 7", before=with_signal("ignore", signal.SIGCHLD)).end()
    assert (status, out) == (7, "")


def test_signals_ignored_from_the_start_stay_ignored_and_withdraw_nothing(
    wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str
) -> None:
    env["QUEUE"] = fifo
    show = "import signal; print([signal.getsignal(s).name for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)])"
    wrapped = wrap(sys.executable, "-c", show, before=with_signal("ignore", signal.SIGHUP, signal.SIGINT))
    assert wrapped.line() == "QUEUED"
    wrapped.send(signal.SIGHUP)
    wrapped.send(signal.SIGINT)
    open_for_writing(fifo)
    assert wrapped.end() == (0, "['SIG_IGN', 'SIG_IGN', 'SIG_DFL']\n")


@pytest.mark.parametrize("mechanism", ["siginfo"])
def test_a_command_that_chose_to_hear_an_ignored_signal_hears_it(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    if sys.platform != "linux":
        pytest.skip("an ignored signal can be taken on Linux alone")
    wrapped = wrap(*tell(), before=with_signal("ignore", signal.SIGINT))
    wrapped.ready()
    wrapped.send(signal.SIGINT)
    assert wrapped.line() == "GOT SIGINT"
    wrapped.send(signal.SIGTERM)
    assert wrapped.end() == (5, "GOT SIGTERM\n")


# In the queue


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "ALRM"])
def test_a_signal_to_end_withdraws_and_is_died_of(
    wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str, name: str
) -> None:
    env["QUEUE"] = fifo
    signum = signal.Signals[f"SIG{name}"]
    wrapped = wrap("echo", "started")
    assert wrapped.line() == "QUEUED"
    wrapped.send(signum)
    assert wrapped.end() == (-signum, f"WITHDRAWN {int(signum)}\n")


def test_a_signal_to_end_waits_for_the_next_wait_and_then_the_command_is_not_started(
    wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str
) -> None:
    env["BUSY"] = fifo
    wrapped = wrap("echo", "started")
    assert wrapped.line() == "BUSY"
    for signum in (signal.SIGUSR1, signal.SIGTSTP, signal.SIGCONT, signal.SIGTERM):  # the last one counts
        wrapped.send(signum)
    open_for_writing(fifo)
    assert wrapped.end() == (-signal.SIGTERM, f"DONE\nWITHDRAWN {int(signal.SIGTERM)}\n")


def test_signals_for_a_command_that_is_not_there_yet_are_dropped(
    wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str
) -> None:
    env["QUEUE"] = fifo
    wrapped = wrap("echo", "started")
    assert wrapped.line() == "QUEUED"
    wrapped.send(signal.SIGUSR1)
    wrapped.send(signal.SIGUSR2)
    open_for_writing(fifo)
    assert wrapped.end() == (0, "started\n")


def test_ctrl_z_in_the_queue_stops_and_goes_on(wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str) -> None:
    env["QUEUE"] = fifo
    wrapped = wrap("echo", "started")
    assert wrapped.line() == "QUEUED"
    for _ in range(3):
        wrapped.send(signal.SIGTSTP)
        assert wrapped.stops_or_ends() == signal.SIGTSTP
        wrapped.send(signal.SIGCONT)
    for _ in range(200):  # and no continue is lost, however close it follows
        wrapped.send(signal.SIGTSTP)
        wrapped.send(signal.SIGCONT)
    open_for_writing(fifo)
    assert wrapped.end() == (0, "started\n")


def test_ctrl_z_outside_a_wait_stops_at_the_next_one(
    wrap: Callable[..., Wrapped], env: dict[str, str], fifo: str
) -> None:
    env["BUSY"] = fifo
    wrapped = wrap("echo", "started")
    assert wrapped.line() == "BUSY"
    wrapped.send(signal.SIGTSTP)
    open_for_writing(fifo)
    assert wrapped.line() == "DONE"  # it could still do this: nothing that others wait for is held while stopped
    assert wrapped.stops_or_ends() == signal.SIGTSTP
    wrapped.send(signal.SIGCONT)
    assert wrapped.end() == (0, "started\n")


def test_a_wake_up_before_the_wait_is_not_lost_and_a_time_out_ends_it(env: dict[str, str]) -> None:
    waits = "assert gate.take() is None; gate.wait(0); gate.wake(); gate.wait(); gate.wait(0.01); gate.wait(-1)"
    script = DRIVER.partition("inherit =")[0] + f"gate.wake(); {waits}; gate.wake(); gate.wait(1e300)"
    assert subprocess.run([sys.executable, "-c", script], env=env, timeout=60).returncode == 0


# While it runs


@pytest.mark.parametrize("session", [False, True])
def test_a_signal_sent_to_leasecap_alone_reaches_the_command_once(
    wrap: Callable[..., Wrapped], env: dict[str, str], session: bool
) -> None:
    wrapped = wrap(*tell(), session=session)
    wrapped.ready()
    for name in ("INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "CONT", "TERM"):
        wrapped.send(signal.Signals[f"SIG{name}"])
        assert wrapped.line() == f"GOT SIG{name}"
    assert wrapped.end() == (5, "")  # told to end, it still waits for the command and its status


@pytest.mark.parametrize("mechanism", ["siginfo"])
def test_a_signal_that_the_command_sent_to_its_group_does_not_come_back_to_it(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    if sys.platform != "linux":
        pytest.skip("who sent a signal is known on Linux alone")
    wrapped = wrap(*tell("group"))
    wrapped.ready()
    for _ in range(20):
        wrapped.send(signal.SIGUSR1)
        assert [wrapped.line(), wrapped.line()] == ["GOT SIGUSR1", "GOT SIGINT"]
    wrapped.send(signal.SIGTERM)
    assert wrapped.end() == (5, "GOT SIGTERM\n")


@pytest.mark.parametrize(("own", "shown"), [("STOP", "TSTP"), ("TSTP", "TSTP"), ("TTIN", "TTIN"), ("TTOU", "TTOU")])
def test_leasecap_stops_when_the_command_does_and_a_continue_for_it_alone_continues_both(
    wrap: Callable[..., Wrapped], env: dict[str, str], own: str, shown: str
) -> None:
    wrapped = wrap(SH, "-c", f"kill -{own} $$; echo on; kill -{own} $$; echo and on; exit 4")
    for word in ("on", "and on"):
        assert wrapped.stops_or_ends() == signal.Signals[f"SIG{shown}"], wrapped.end()
        wrapped.send(signal.SIGCONT)
        assert wrapped.line() == word
    assert wrapped.end() == (4, "")


def test_a_stop_of_the_command_does_not_stop_an_orphaned_group_that_nobody_could_continue(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    env["HOOK"] = """
stop, take = gate.stop, gate.take
def stop_and_tell(*arguments):
    gate.take = take_and_say
    return stop(*arguments)
def take_and_say(*arguments):
    gate.take = take
    say("BACK")
    return take(*arguments)
gate.stop = stop_and_tell
"""
    wrapped = wrap(*tell(), session=True)
    child = wrapped.ready()
    os.kill(child, signal.SIGSTOP)
    assert wrapped.line() == "BACK"
    assert state(child) == "T"  # and it was not continued, which nobody asked for
    os.kill(child, signal.SIGCONT)
    assert wrapped.line() == "GOT SIGCONT"
    wrapped.send(signal.SIGTERM)
    assert wrapped.end() == (5, "GOT SIGTERM\n")


def test_a_continue_that_is_waiting_wins_over_the_report_of_an_earlier_stop(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    wrapped = wrap(*tell())
    child = wrapped.ready()
    for _ in range(3):
        wrapped.send(signal.SIGSTOP)
        os.waitpid(wrapped.pid, os.WUNTRACED)
        os.kill(child, signal.SIGSTOP)  # leasecap can't see it yet ...
        wait_for_state(child, "T")
        wrapped.send(signal.SIGCONT)  # ... and now finds SIGCHLD (17) before SIGCONT (18)
        assert wrapped.line() == "GOT SIGCONT"
    wrapped.send(signal.SIGTERM)
    assert wrapped.end() == (5, "GOT SIGTERM\n")


@pytest.mark.parametrize("mechanism", ["pipe"])
def test_a_stop_noted_behind_its_own_report_is_over_with_the_continue(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    env["HOOK"] = """
import signal
stop = gate.stop
def note_and_stop(*arguments):
    gate._source._noted.append(signal.SIGTSTP)  # the terminal's, which has stopped the command
    return stop(*arguments)
gate.stop = note_and_stop
"""
    wrapped = wrap(*tell())
    child = wrapped.ready()
    for _ in range(2):
        os.kill(child, signal.SIGTSTP)
        assert wrapped.stops_or_ends()
        os.killpg(wrapped.pid, signal.SIGCONT)  # as `bg` does
        assert wrapped.line() == "GOT SIGCONT"
    wrapped.send(signal.SIGTERM)
    assert wrapped.end() == (5, "GOT SIGTERM\n")


@pytest.mark.parametrize("mechanism", ["pipe"])
def test_a_continue_noted_behind_the_report_of_a_stop_is_waiting_too(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    # Both can come while the signals are unblocked, and then no longer count as pending for the kernel.
    env["HOOK"] = """
import signal
take = gate.take
def take_once(*arguments):
    gate.take = take
    taken = take(*arguments)
    assert taken.signum == signal.SIGCHLD
    gate._source._noted.append(signal.SIGCONT)
    return taken
gate.take = take_once
"""
    assert wrap(SH, "-c", "kill -STOP $$; exit 4").end()[0] == 4


@pytest.mark.parametrize("how", ["child", "everybody", "ended"])
def test_a_command_that_goes_on_in_the_moment_of_mirroring_its_stop_stops_nobody(
    wrap: Callable[..., Wrapped], env: dict[str, str], how: str
) -> None:
    # The last look at the command, taken when our own stop is pending already, is where the world changes.
    env["HOOK"] = """
from signal import SIGCONT, SIGKILL
stop = gate.stop
def stop_at_a_bad_moment(signum, still):
    def changed():
        if env["HOW"] == "everybody":
            answer = still()
            os.killpg(0, SIGCONT)  # after the look: what is pending for us must be gone
            return answer
        os.kill(child.pid, SIGCONT if env["HOW"] == "child" else SIGKILL)
        (await_exit if env["HOW"] == "ended" else await_continue)(child.pid)
        return still()
    return stop(signum, changed)
gate.stop = stop_at_a_bad_moment
"""
    env["HOW"] = how
    wrapped = wrap(SH, "-c", "kill -STOP $$; exit 4")
    assert wrapped.stops_or_ends() == 0
    assert wrapped.end()[0] == (-signal.SIGKILL if how == "ended" else 4)


def test_a_second_ctrl_z_close_behind_fg_is_not_undone(wrap: Callable[..., Wrapped], env: dict[str, str]) -> None:
    # The command has been continued and stopped again before leasecap gets to look.
    env["HOOK"] = """
import signal
stop = gate.stop
def stop_and_be_slow(*arguments):
    gate.stop = stop
    continued = stop(*arguments)
    os.kill(child.pid, signal.SIGSTOP)
    await_stop(child.pid)
    return continued
gate.stop = stop_and_be_slow
"""
    wrapped = wrap(*tell())
    os.kill(wrapped.ready(), signal.SIGSTOP)
    for _ in range(2):
        assert wrapped.stops_or_ends() == signal.SIGTSTP
        os.killpg(wrapped.pid, signal.SIGCONT)
    wrapped.send(signal.SIGTERM)
    assert wrapped.end()[0] == 5


def state(pid: int) -> str:
    """The state of a process as ``ps`` shows it, one letter; nothing if it is gone."""
    return subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout[:1].strip()


def wait_for_state(pid: int, *states: str) -> None:
    while state(pid) not in states:
        pass  # pytest's own time-out ends this


# On a terminal


@pytest.fixture
def terminal(env: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    for name, code in [("run", DRIVER), ("tell", TELL)]:
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/{name}.py" "$@"\n')
        (tmp_path / name).chmod(0o755)
    opened = Terminal({**env, "PATH": f"{tmp_path}:{env['PATH']}"})
    yield opened
    opened.close()


def before(match: re.Match[str]) -> str:
    return match.string[: match.start()]


@pytest.mark.parametrize(("key", "name"), [("\x03", "SIGINT"), ("\x1c", "SIGQUIT")])
def test_a_key_that_signals_the_whole_foreground_group_reaches_the_command_once(
    terminal: Terminal, key: str, name: str
) -> None:
    terminal.type("run tell; echo status $?\n")
    pid = int(terminal.expect(r"READY (\d+) \d+\s")[1])
    for _ in range(5):
        terminal.type(key)
        assert "GOT" not in before(terminal.expect(f"GOT {name}"))
    os.kill(pid, signal.SIGTERM)
    assert "GOT" not in before(terminal.expect("GOT SIGTERM"))
    terminal.expect("status 5")


@pytest.mark.parametrize("mechanism", ["siginfo"])
def test_an_interrupt_sent_to_leasecap_alone_reaches_the_command_in_the_foreground_as_well(terminal: Terminal) -> None:
    if sys.platform != "linux":
        pytest.skip("who sent a signal is known on Linux alone")
    terminal.type("run tell; echo status $?\n")
    leasecap = int(terminal.expect(r"READY \d+ (\d+)\s")[1])
    os.kill(leasecap, signal.SIGINT)
    terminal.expect("GOT SIGINT")
    os.kill(leasecap, signal.SIGTERM)
    terminal.expect("status 5")


def test_ctrl_c_reaches_a_command_that_has_left_our_group(terminal: Terminal) -> None:
    terminal.type("run tell own-group; echo status $?\n")
    leasecap = int(terminal.expect(r"READY \d+ (\d+)\s")[1])
    terminal.type("\x03")
    terminal.expect("GOT SIGINT")
    os.kill(leasecap, signal.SIGTERM)
    terminal.expect("status 5")


@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("\x1c", 131)])
def test_the_shell_sees_the_signal_that_a_key_ended_the_command_with(terminal: Terminal, key: str, status: int) -> None:
    terminal.type("ulimit -c 0; run sh -c 'echo READY; exec sleep 1000'\n")
    terminal.expect("READY")
    terminal.type(key)
    terminal.type("echo status $?\n")
    terminal.expect(f"status {status}")


def test_ctrl_z_fg_and_bg_work_as_for_any_job(terminal: Terminal) -> None:
    terminal.type("run tell\n")
    leasecap = int(terminal.expect(r"READY \d+ (\d+)\s")[1])
    for resume in ("fg", "bg", "fg"):
        terminal.type("\x1a")
        terminal.expect("Stopped")
        terminal.type(f"{resume}\n")
        terminal.expect("GOT SIGCONT")
        if resume == "bg":
            terminal.type("jobs\n")
            terminal.expect("Running")
            terminal.type("fg\n")
        terminal.wait_for_a_job_in_the_foreground()
    os.kill(leasecap, signal.SIGTERM)
    terminal.expect("GOT SIGTERM")
    terminal.type("echo status $?\n")
    terminal.expect("status 5")


def test_a_command_that_stops_its_whole_group_as_editors_do_is_one_stopped_job(terminal: Terminal) -> None:
    terminal.type("run sh -c 'kill -TSTP 0; echo on; kill -TSTP 0; echo and on; exit 4'\n")
    for word in ("on", "and on"):
        terminal.expect("Stopped")
        terminal.type("fg\n")
        terminal.expect(rf"\n{word}\r")
    terminal.type("echo status $?\n")
    terminal.expect("status 4")


def test_a_command_in_the_background_that_reads_the_terminal_stops_until_it_is_in_the_foreground(
    terminal: Terminal,
) -> None:
    terminal.type("run cat &\n")
    terminal.type("until jobs | grep -q Stopped; do :; done; jobs -l; fg\n")
    terminal.expect(r"Stopped \(tty input\)")
    terminal.expect("run cat")
    terminal.type("hello\n\x04")
    terminal.expect(r"\nhello\r")
    terminal.type("echo status $?\n")
    terminal.expect("status 0")


def test_a_change_of_the_windows_size_reaches_the_command(terminal: Terminal) -> None:
    terminal.type("run tell; echo status $?\n")
    leasecap = int(terminal.expect(r"READY \d+ (\d+)\s")[1])
    terminal.resize(30, 100)
    terminal.expect("GOT SIGWINCH")
    os.kill(leasecap, signal.SIGTERM)
    terminal.expect("status 5")


def test_ctrl_z_and_ctrl_c_in_the_queue_work_as_for_any_job(terminal: Terminal, fifo: str) -> None:
    terminal.type(f"QUEUE={fifo} run echo started\n")
    terminal.expect("QUEUED")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.type("fg\n")
    terminal.wait_for_a_job_in_the_foreground()
    terminal.type("\x03")
    terminal.expect("WITHDRAWN")
    terminal.type("echo status $?\n")
    terminal.expect("status 130")


@pytest.mark.parametrize("as_leader_of_the_session", ["", "exec "])
def test_nothing_stays_behind_when_the_terminal_goes_away(terminal: Terminal, as_leader_of_the_session: str) -> None:
    terminal.type(f"{as_leader_of_the_session}run sh -c 'echo READY $$ $PPID; exec sleep 1000'\n")
    both = terminal.expect(r"READY (\d+) (\d+)\s").groups()
    terminal.hang_up()
    for pid in both:
        wait_for_state(int(pid), "", "Z")


# Held too long

HELD = """
import functools, time
from leasecap._liveness.max_hold import Hold
supervise = functools.partial(supervise, hold=Hold(1.0, 0.1, time.monotonic() + {left}))
"""


@pytest.mark.parametrize("ignored", [(), (signal.SIGTERM,)])
def test_a_command_whose_time_is_over_is_ended_and_the_status_is_124(
    wrap: Callable[..., Wrapped], env: dict[str, str], ignored: tuple[int, ...]
) -> None:
    env["HOOK"] = HELD.format(left=0.5)
    status, out = wrap(*with_signal("ignore", *ignored), SH, "-c", "while :; do sleep 0.05; done").end()
    assert (status, "gets TERM, and KILL in 0.1s" in out) == (124, True)


def test_a_command_that_ended_in_time_unnoticed_keeps_its_status(
    wrap: Callable[..., Wrapped], env: dict[str, str]
) -> None:
    # Leasecap was stopped, say, from before the end of the command until after that of its time.
    env["HOOK"] = "await_exit(child.pid)" + HELD.format(left=-1)
    assert wrap(SH, "-c", "exit 3").end() == (3, "")
