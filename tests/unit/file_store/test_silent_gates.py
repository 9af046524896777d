"""Gates that nothing has come through: who is noted, who is shown, and what is swept away."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from leasecap._file_store.silent_gates import SilentGates
from leasecap._host.effects import Effects
from leasecap._runtime import runtime
from leasecap._store.picture import SilentGate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.presence import Presence

PID = runtime.own.effects.me().pid
AGENT = SilentGate(PID, "agent")


class Cemetery(Effects):
    """On a machine where all other processes have ended."""

    def presence(self, pid: int, start: int) -> Presence:
        return super().presence(pid, start) if pid == PID else "gone"


@pytest.fixture
def gates(root: Path) -> SilentGates:
    return SilentGates(Cemetery(), str(root))


def plant(root: Path, name: str, **record: object) -> Path:
    """A file like one of a gate, of this namespace if it isn't said."""
    folder = root / "gates"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"command": "other", "pid_ns": runtime.own.effects.me().pid_ns, **record}))
    return path


def test_a_gate_is_silent_from_its_note_until_it_is_forgotten(root: Path, gates: SilentGates) -> None:
    gates.forget()
    gates.note("agent")
    gates.note("agent")
    assert gates.read() == (AGENT,)
    assert SilentGates(Effects(), str(root)).read() == (AGENT,)
    gates.forget()
    assert gates.read() == ()
    gates.forget()


def test_where_none_was_ever_silent_there_is_nothing_to_read(gates: SilentGates) -> None:
    with pytest.raises(FileNotFoundError):
        gates.read()


def test_what_an_ended_gate_has_left_is_not_shown_and_swept_away(root: Path, gates: SilentGates) -> None:
    ended = plant(root, "999999-1")
    half_written = plant(root, "999999-1.0123456789ab")
    unreadable = plant(root, "999998-1")
    unreadable.write_text("{")
    assert gates.read() == ()
    gates.note("agent")
    assert gates.read() == (AGENT,)
    assert [path.exists() for path in (ended, half_written, unreadable)] == [False] * 3


def test_a_gate_of_another_namespace_is_left_alone(root: Path, gates: SilentGates) -> None:
    other = plant(root, "999999-1", pid_ns="pid:[1]")
    own_number = plant(root, f"{PID}-{(runtime.own.effects.me().start or 0) + 1}", pid_ns="pid:[1]")
    gates.note("agent")
    assert gates.read() == (AGENT,)
    assert other.exists() and own_number.exists()


@pytest.mark.parametrize("name", ["README", "x-1", "1-x", "-", "1", "\u00b2-\u00b2", "1-"])
def test_a_file_of_another_name_is_nobodys(root: Path, gates: SilentGates, name: str) -> None:
    stray = plant(root, name)
    gates.note("agent")
    assert gates.read() == (AGENT,)
    assert stray.exists()


def test_a_file_that_is_being_written_is_not_shown(root: Path, gates: SilentGates) -> None:
    gates.note("agent")
    name = next((root / "gates").iterdir()).name
    aside = plant(root, f"{name}.0123456789ab")
    assert gates.read() == (AGENT,)
    gates.note("agent")
    assert aside.exists()  # its process runs


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"command": "x"}', "\x00", "[" * 4000, "[" * 9000])
def test_a_file_that_says_nothing_is_left_out(root: Path, gates: SilentGates, text: str) -> None:
    gates.note("agent")
    next((root / "gates").iterdir()).write_text(text)
    assert gates.read() == ()
    gates.note("agent")
    assert gates.read() == (AGENT,)


def test_two_that_sweep_at_once_dont_hinder_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = plant(root, "999999-1")

    class Slow(Cemetery):
        def presence(self, pid: int, start: int) -> Presence:
            left.unlink(missing_ok=True)
            return super().presence(pid, start)

    slow = SilentGates(Slow(), str(root))
    slow.note("agent")
    assert SilentGates(Effects(), str(root)).read() == (AGENT,)


def test_a_note_that_cant_be_written_is_an_os_error(root: Path, gates: SilentGates) -> None:
    root.write_text("no directory")
    with pytest.raises(OSError) as raised:
        gates.note("agent")
    assert raised.value.errno in (errno.ENOTDIR, errno.EEXIST)
    gates.forget()


def test_of_a_running_process_that_isnt_ours_the_command_is_shown(root: Path) -> None:
    from leasecap._host.process import start_of

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        plant(root, f"{other.pid}-{start_of(other.pid)}", command="other")
        gates = SilentGates(Effects(), str(root))
        assert gates.read() == (SilentGate(other.pid, "other"),)
        other.communicate(b"\n")
    assert gates.read() == ()
