"""What a process says of itself."""

from __future__ import annotations

import sys

import pytest

from leasecap._host.effects import Effects
from leasecap._host.own_record import own_record


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["-c", "a"], "python -c a"),
        (["-", "a"], "python - a"),
        ([""], "python"),
        ([], "python"),
        (["/usr/bin/agent", "-c"], "/usr/bin/agent -c"),
    ],
)
def test_a_program_without_a_file_is_named_after_python(
    argv: list[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert own_record(Effects().me(), "p", local=True, label=None).command == command
