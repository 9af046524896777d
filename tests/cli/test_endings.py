"""What `leasecap run` sends to a command that may run no longer."""

from __future__ import annotations

import signal
import sys
import time

import pytest

if sys.platform == "win32":
    pytest.skip("there is no `leasecap run`", allow_module_level=True)

from leasecap._liveness.max_hold import Hold
from leasecap.cli import _endings
from leasecap.cli._endings import Endings


class Told:
    """A command that notes what it is sent, and ends when it is told to have ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pid = 4711
        self.ended = False
        self.sent: list[str] = []
        monkeypatch.setattr(_endings, "send", self._note)

    def _note(self, _: object, signum: int) -> bool:
        self.sent.append(signal.Signals(signum).name)
        return True

    def has_ended(self) -> bool:
        return self.ended


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_command_without_an_end_gets_nothing(command: Told) -> None:
    endings = Endings(command, None, lambda: None)  # type: ignore[arg-type]
    assert endings.act() is None
    assert command.sent == []
    assert (endings.overdue, endings.unsure) == (False, False)


def test_command_whose_slot_is_in_doubt_gets_term_once_and_kill_at_the_end(command: Told) -> None:
    left: list[float | None] = [5.0]
    endings = Endings(command, None, lambda: left[0])  # type: ignore[arg-type]
    assert endings.act() == 1.0  # a clock that goes on while the machine sleeps may bring the end sooner
    left[0] = 0.3
    assert endings.act() == 0.3
    assert command.sent == ["SIGTERM", "SIGCONT"]
    left[0] = -0.1
    endings.act()
    endings.act()
    assert command.sent == ["SIGTERM", "SIGCONT", "SIGKILL"]
    assert (endings.overdue, endings.unsure) == (False, True)


def test_command_that_is_told_too_late_gets_both_at_once(command: Told) -> None:
    Endings(command, None, lambda: -3.0).act()  # type: ignore[arg-type]
    assert command.sent == ["SIGTERM", "SIGCONT", "SIGKILL"]


def test_command_whose_slot_is_certain_again_is_not_killed(command: Told) -> None:
    left: list[float | None] = [5.0]
    endings = Endings(command, None, lambda: left[0])  # type: ignore[arg-type]
    endings.act()
    left[0] = None
    assert endings.act() is None
    assert command.sent == ["SIGTERM", "SIGCONT"]
    left[0] = 4.0
    endings.act()
    assert command.sent == ["SIGTERM", "SIGCONT"] * 2
    assert endings.unsure


def test_command_that_has_ended_gets_nothing(command: Told) -> None:
    command.ended = True
    endings = Endings(command, Hold(1.0, 1.0, time.monotonic() - 1), lambda: -1.0)  # type: ignore[arg-type]
    assert endings.act() is None
    assert command.sent == []
    assert (endings.overdue, endings.unsure) == (False, False)


def test_both_ends_are_kept_apart(command: Told) -> None:
    endings = Endings(command, Hold(1.0, 100.0, time.monotonic() - 1), lambda: None)  # type: ignore[arg-type]
    left = endings.act()
    assert left is not None
    assert 50 < left <= 100
    assert command.sent == ["SIGTERM", "SIGCONT"]
    assert (endings.overdue, endings.unsure) == (True, False)
