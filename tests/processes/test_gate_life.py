"""The life of a gate: killed, stopped, outlived and told to end, with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from children import await_stop, state
from commands import environment, start, status, until
from gated import Gated, configure
from gated_terminal import GatedTerminal
from provider_steps import Latch, reply, stream
from raw_http import BrokenError

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from pace import Pace
    from provider import Provider

pytestmark = pytest.mark.posix("there is no `leasecap run`")

PATCHED = """
import sys
from leasecap.cli import _per_request
_per_request.OUTLIVING = {seconds}
from leasecap.cli.main import main
main()
"""

# Says which signal it gets, and ends with status 5. It keeps them blocked: one that comes to Python between its last
# look at what has come and pause(2) isn't handled before another one ends that.
TELL = """
import signal, sys
wanted = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("READY", flush=True)
print(signal.Signals(signal.sigwait(wanted)).name, flush=True)
sys.exit(5)
"""

# Sends a request that its child takes over: the first one ends, the other waits for the answer and says how it was.
OUTLIVED = """
import os, socket, sys
from urllib.parse import urlsplit
url = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
connection = socket.create_connection((url.hostname, url.port))
body = b"{}"
connection.sendall(
    b"POST %b/v1/messages HTTP/1.1\\r\\nHost: %b\\r\\nContent-Length: %d\\r\\n\\r\\n%b"
    % (url.path.encode(), url.netloc.encode(), len(body), body)
)
if os.fork():
    print("LEFT", os.getpid(), flush=True)
    os._exit(3)
try:
    answer = connection.recv(100).partition(b"\\r\\n")[0] or b"nothing"
except ConnectionError:
    answer = b"broken"
with open(sys.argv[1] + ".new", "wb") as file:
    file.write(answer)
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


class Waiter(threading.Thread):
    """Waits in this process for the slot, and keeps it until it is told.

    :ivar got: when it had the slot, in nanoseconds of CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        super().__init__()
        self.got: int | None = None
        self._enough = threading.Event()
        self.start()

    def run(self) -> None:
        with leasecap.slot("p", limit=1, borrow=False):
            self.got = time.monotonic_ns()
            self._enough.wait(60)

    def end(self) -> None:
        self._enough.set()
        self.join()


class Holder:
    """Another process that holds the slot: one of this process would be lent to the requests it sends."""

    def __enter__(self) -> Self:
        command = (sys.executable, "-c", "print('held', flush=True); input()")
        self._process = start("run", "-p", "p", "--limit", "1", "--", *command, stdin=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"
        return self

    def release(self) -> None:
        self._process.communicate("\n", timeout=60)

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.release()


# -- killed -----------------------------------------------------------------------------------------------------------


def test_slots_of_a_killed_wrapper_are_free_for_others_at_once(provider: Provider, pace: Pace) -> None:
    provider.plan(stream(b"data: 1\n\n", Latch()))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request())
        client.up_to(b"data: 1\n\n")
        waiter = Waiter()
        until(lambda: status().waiting == 1)
        killed = time.monotonic_ns()
        gate.process.kill()
        with pytest.raises(BrokenError):
            client.up_to(b"0\r\n\r\n")
        until(lambda: waiter.got)
        waiter.end()
        assert waiter.got is not None and pace.seconds(killed, waiter.got) < 0.6
        with pytest.raises(ConnectionRefusedError):
            gate.connect()
    assert provider.ended().gone is not None


def test_a_ticket_of_a_killed_wrapper_is_in_nobodys_way(provider: Provider) -> None:
    with Holder(), Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request())
        until(lambda: status().waiting == 1)
        gate.process.kill()
        assert client.await_end() == b""
        waiter = Waiter()
        until(lambda: status().waiting)
    until(lambda: waiter.got)
    waiter.end()
    assert provider.requests == []


# -- stopped ----------------------------------------------------------------------------------------------------------


def test_the_tickets_of_a_stopped_gate_are_passed_over(provider: Provider, tmp_path: Path) -> None:
    with Holder() as holder, GatedTerminal(provider, tmp_path) as gate, gate.connect() as client:
        client.send(gate.request())
        until(lambda: status().waiting == 1)
        waiter = Waiter()
        until(lambda: status().waiting == 2)
        gate.screen.type("\x1a")
        gate.screen.expect("Stopped")
        holder.release()
        until(lambda: waiter.got)
        assert provider.requests == []
        gate.screen.type("fg\n")
        gate.screen.wait_for_a_job_in_the_foreground()
        waiter.end()
        assert client.answer().status == 200
        gate.screen.type("\n")
        gate.screen.expect("end\r\n")


def test_the_leases_of_a_stopped_gate_stay(provider: Provider, tmp_path: Path) -> None:
    latch = Latch()
    provider.plan(stream(b"data: 1\n\n", latch, b"data: 2\n\n"))
    with GatedTerminal(provider, tmp_path) as gate, gate.connect() as client:
        client.send(gate.request())
        client.up_to(b"data: 1\n\n\r\n")
        waiter = Waiter()
        until(lambda: status().waiting == 1)
        gate.screen.type("\x1a")
        gate.screen.expect("Stopped")
        latch.set()
        provider.ended()
        assert client.is_silent(1.0)
        assert waiter.got is None
        [holder] = status().holders
        assert holder.alive
        gate.screen.type("fg\n")
        client.up_to(b"data: 2\n\n")
        until(lambda: waiter.got)
        waiter.end()
        gate.screen.type("\n")
        gate.screen.expect("end\r\n")


def test_no_time_out_runs_out_while_the_gate_is_stopped(root: Path, provider: Provider, tmp_path: Path) -> None:
    configure(root, "idle_timeout = 3\n")
    latch = Latch()
    provider.plan(stream(b"data: 1\n\n", latch, b"data: 2\n\n"))
    with GatedTerminal(provider, tmp_path) as gate, gate.connect() as client:
        client.send(gate.request(body=b'{"stream": true}'))
        client.up_to(b"data: 1\n\n\r\n")
        gate.screen.type("\x1a")
        gate.screen.expect("Stopped")
        latch.set()
        provider.ended()
        assert client.is_silent(4.7)
        gate.screen.type("fg\n")
        client.up_to(b"data: 2\n\n")
        gate.screen.type("\n")
        gate.screen.expect("end\r\n")


# -- outlived ---------------------------------------------------------------------------------------------------------


class Outlived:
    """A command that ends with status 3 while its child waits for the answer to a request."""

    def __init__(self, provider: Provider, folder: Path, patch: pytest.MonkeyPatch, seconds: float) -> None:
        """:param seconds: for which the gate stays at most."""
        patch.setattr("commands.PROGRAM", (sys.executable, "-c", PATCHED.format(seconds=seconds)))
        patch.setenv("ANTHROPIC_BASE_URL", provider.url)
        self._told = folder / "told"
        command = (sys.executable, "-c", OUTLIVED, str(self._told))
        self.process = start("run", "--per-request", "-p", "p", "--limit", "1", "--", *command, process_group=0)
        assert self.process.stdout is not None
        word, pid = self.process.stdout.readline().split()
        assert word == "LEFT"
        provider.request()
        # It was waited for: before, a signal is passed on to it.
        until(lambda: state(int(pid)) == psutil.STATUS_DEAD)

    def told(self) -> str:
        """What came of the request."""
        until(self._told.exists)
        return self._told.read_text()

    def end(self) -> tuple[int, str]:
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


def test_what_outlives_the_command_is_served_to_its_end(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.plan((latch := Latch(), *reply(200)))
    outlived = Outlived(provider, tmp_path, monkeypatch, 60)
    with pytest.raises(subprocess.TimeoutExpired):
        outlived.process.wait(0.5)
    latch.set()
    assert outlived.told() == "HTTP/1.1 200 OK"
    assert outlived.end() == (3, "")
    assert status().in_flight == 0


def test_what_outlives_the_command_for_too_long_is_broken_off(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.plan((Latch(), *reply(200)))
    outlived = Outlived(provider, tmp_path, monkeypatch, 3)
    assert outlived.told() in ("nothing", "broken")
    assert outlived.end() == (3, "")
    assert provider.ended().gone is not None
    assert status().in_flight == 0


@pytest.mark.parametrize("signum", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_the_wait_for_what_outlives_the_command(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: str
) -> None:
    provider.plan((Latch(), *reply(200)))
    outlived = Outlived(provider, tmp_path, monkeypatch, 3600)
    outlived.process.send_signal(getattr(signal, signum))
    assert outlived.told() in ("nothing", "broken")
    assert outlived.end() == (3, "")
    assert provider.ended().gone is not None
    assert status().in_flight == 0


@pytest.mark.parametrize("signum", ["SIGUSR1", "SIGCONT", "SIGWINCH", "SIGCHLD"])
def test_another_signal_doesnt_end_the_wait(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: str
) -> None:
    provider.plan((latch := Latch(), *reply(200)))
    outlived = Outlived(provider, tmp_path, monkeypatch, 3600)
    outlived.process.send_signal(getattr(signal, signum))
    with pytest.raises(subprocess.TimeoutExpired):
        outlived.process.wait(0.3)
    latch.set()
    assert outlived.told() == "HTTP/1.1 200 OK"
    assert outlived.end() == (3, "")


def test_a_wait_for_what_outlives_the_command_can_be_stopped(
    provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.plan((latch := Latch(), *reply(200)))
    outlived = Outlived(provider, tmp_path, monkeypatch, 3600)
    outlived.process.send_signal(getattr(signal, "SIGTSTP", 0))
    await_stop(outlived.process.pid)
    assert outlived.process.poll() is None
    outlived.process.send_signal(getattr(signal, "SIGCONT", 0))
    latch.set()
    assert outlived.told() == "HTTP/1.1 200 OK"
    assert outlived.end() == (3, "")


# -- told to end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_the_wrapper_alone_reaches_the_command(provider: Provider, name: str) -> None:
    process = start(
        *("run", "--per-request", "-p", "p", "--limit", "1", "--", sys.executable, "-c", TELL),
        env=environment(ANTHROPIC_BASE_URL=provider.url),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "READY\n"
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=60)[0] == f"{name}\n"
    assert process.returncode == 5


def test_ctrl_c_ends_a_command_on_its_terminal(provider: Provider, tmp_path: Path) -> None:
    with GatedTerminal(provider, tmp_path) as gate:
        assert gate.ask().status == 200
        gate.screen.type("\x03")
        gate.screen.expect("KeyboardInterrupt")
        gate.screen.type("echo status-$?\n")
        assert gate.screen.expect(r"status-(\d+)")[1] == "130"
        with pytest.raises(ConnectionRefusedError):
            gate.connect()
