"""`leasecap status --json`: text that every reader of JSON takes, whatever bytes agents, paths and records hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from commands import DEADLINE, PROGRAM, environment, until

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ODD = b"odd-\xff\xed\xa0\x80"
"""No UTF-8, the encoding of a surrogate included."""


@pytest.fixture
def odd_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), ODD)))
    monkeypatch.setenv("LEASECAP_HOME", str(path))
    return path


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def read() -> Any:
    done = subprocess.run([*PROGRAM, "status", "--json"], env=environment(), capture_output=True, timeout=DEADLINE)
    found = json.loads(done.stdout)
    for text in texts(found):
        text.encode()  # fails for a lone surrogate
    assert not re.search(rb"\\u[dD][89a-fA-F]", done.stdout)
    return found


def test_no_lone_surrogate_of_a_command_label_directory_or_root(odd_root: Path, tmp_path: Path) -> None:
    directory = os.path.join(os.fsencode(tmp_path), b"cwd-\xff")
    os.mkdir(directory)
    label = [b"-l", b"label-\xff"]
    holders = [
        subprocess.Popen(
            [*PROGRAM, "run", "-p", "p", "--limit", "2", *more, "--", "sh", "-c", "cat", b"argument-\xff"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd=directory,
        )
        for more in ([], label)
    ]
    until(lambda: leasecap.status("p").pools[0].in_flight == 2)
    found = read()
    [pool] = found["pools"]
    assert found["root"].endswith("odd-" + "\ufffd" * 4)
    for holder in pool["holders"]:
        assert holder["cwd"].endswith("cwd-\ufffd")
        assert "argument-\\xff" in holder["command"]
    assert sorted(str(holder["label"]) for holder in pool["holders"]) == ["None", "label-\ufffd"]
    for process in holders:
        process.communicate(timeout=DEADLINE)


def test_no_lone_surrogate_of_a_label_that_holds_one() -> None:
    with leasecap.acquire("p", limit=1, label="lone \ud800 and \ude00, a pair: \U0001f600"):
        done = subprocess.run([*PROGRAM, "status", "--json"], env=environment(), capture_output=True, timeout=DEADLINE)
    [holder] = json.loads(done.stdout)["pools"][0]["holders"]
    assert holder["label"] == "lone \ufffd and \ufffd, a pair: \U0001f600"


def test_errors_name_an_odd_path_without_lone_surrogates(odd_root: Path) -> None:
    odd_root.mkdir(mode=0o700)
    (odd_root / "config.toml").write_text("[pools.p]\nlimt = 1\n")
    (odd_root / "pools").touch()
    found = read()
    assert "limt" in found["config_error"] and "pools" in found["error"]
