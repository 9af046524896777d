"""The scripts of the checkout: the demo's provider and pictures, and how a Python is found."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import REPOSITORY

from _demo import feedback, machines, per_request, picture
from _demo.agent import ask
from _demo.cap import Run, broken_promises
from _demo.provider import Provider

Begin = Callable[[], http.client.HTTPResponse]
SCRIPTS = REPOSITORY / "scripts"
SLOW = (3.0, 3.0)  # seconds from and to which an answer lasts


def plain(tone: str, text: str) -> str:
    return text


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider for three whose answers take long enough to be met in the middle."""
    with Provider(limit=3, seed=1, shortest=0.3, longest=0.3) as server:
        server.daemon_threads = False  # so that leaving it waits for them
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


@pytest.fixture
def begin_request(provider: Provider) -> Iterator[Begin]:
    """Sends a request; gives the response of which the status was read, and no more."""
    with contextlib.ExitStack() as open_responses:

        def begin() -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection("127.0.0.1", provider.server_port, timeout=20)
            connection.request("POST", "/v1/chat/completions", "{}")
            return open_responses.enter_context(connection.getresponse())

        yield begin


def test_provider_answers_three_at_a_time_and_refuses_the_fourth(provider: Provider, begin_request: Begin) -> None:
    provider._range = SLOW
    open_streams = [begin_request() for _ in range(3)]
    fourth = begin_request()
    assert [stream.status for stream in open_streams] == [200, 200, 200]
    assert (fourth.status, fourth.headers["Retry-After"]) == (429, "1")
    assert json.loads(fourth.read())["error"]["type"] == "rate_limit_error"
    assert all(stream.read().endswith(b"data: [DONE]\n\n") for stream in open_streams)

    found = provider.measurements()
    assert (found["in_flight"], found["answered"], found["refused"]) == (0, 3, 1)
    assert max(in_flight for _, in_flight, _ in found["record"]) == 4


def test_provider_has_counted_a_request_out_before_its_agent_reads_the_end(
    provider: Provider, begin_request: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave = provider.leave

    def leave_late(**how: bool) -> None:
        time.sleep(0.2)  # time enough for an agent that has read the end to come back
        leave(**how)

    monkeypatch.setattr(provider, "leave", leave_late)
    provider.limit = 1
    assert b"data: [DONE]\n" in iter(begin_request().readline, b"")
    assert begin_request().status == 200


def test_provider_counts_a_request_out_when_its_agent_hangs_up(provider: Provider, begin_request: Begin) -> None:
    provider._range = SLOW
    streams = [begin_request() for _ in range(3)]
    for stream in streams:
        stream.close()
    assert ask(f"http://127.0.0.1:{provider.server_port}/v1", "still there?") == "One cap holds for all of us. "
    assert provider.measurements()["answered"] == 1


def test_chart_shows_what_is_over_the_limit_above_its_line_and_marks_refusals() -> None:
    record = [(0.0, 1, 0), (1.0, 3, 0), (2.0, 6, 3), (3.0, 0, 3)]
    lines = picture.chart(record, 3, 4.0, picture.GUTTER + 32, picture.ASCII, plain)
    assert lines == [
        "       6 |                #########",
        "         |                #########",
        " limit 3 |----------------#########-------",
        "         |        #################",
        "         |::::::::#################",
        "         ++-------+-------+-------+-------",
        "          0 s     1 s     2 s     3 s",
        "     429                  x",
    ]


def test_chart_of_a_run_within_its_limit_has_nothing_above_the_line() -> None:
    lines = picture.chart([(0.0, 3, 0), (3.5, 0, 0)], 3, 4.0, 40, picture.BLOCKS, plain)
    assert lines[0].split("│") == [" limit 3 ", "╌" * 30]
    assert lines[1] == lines[2]
    assert lines[-1].split() == ["429", "none"]


def test_table_lines_its_columns_up() -> None:
    assert picture.table(["bare", "leased"], [("refused", "41", "0"), ("wall time", "9.8 s", "6.1 s")]) == [
        "             bare   leased",
        "refused        41        0",
        "wall time   9.8 s    6.1 s",
    ]


@pytest.mark.parametrize(("peak", "refused", "complaints"), [(3, 0, 0), (3, 1, 1), (2, 0, 1), (0, 0, 1)])
def test_demo_fails_when_the_leased_run_was_refused_or_left_slots_empty(
    peak: int, refused: int, complaints: int
) -> None:
    assert len(broken_promises(Run([(0.0, peak, refused)] if peak else [], 24, refused, 6.0))) == complaints


@pytest.mark.parametrize(("limit", "answered", "complaints"), [(3, 48, 0), (2, 48, 0), (5, 48, 1), (3, 47, 1)])
def test_demo_fails_when_the_limit_was_not_found_or_a_request_was_lost(
    limit: int, answered: int, complaints: int
) -> None:
    assert len(feedback.broken_promises(limit, answered)) == complaints


def run_that_used(share: float, answered: int = 27, refused: int = 0) -> Run:
    return Run([(0.0, 3, 0), (share, 0, refused), (1.0, 0, refused)], answered, refused, 1.0)


def test_use_of_a_limit_counts_what_is_over_it_as_full() -> None:
    assert Run([(1.0, 6, 3), (2.0, 1, 3), (3.0, 0, 3)], 2, 3, 3.0).use(2) == pytest.approx(0.75)
    assert Run([], 0, 0, 1.0).use(2) == 0


@pytest.mark.parametrize(
    ("found", "complaints"),
    [
        (run_that_used(0.9), 0),
        (run_that_used(0.9, refused=1), 1),
        (run_that_used(0.9, answered=26), 1),
        (run_that_used(0.4), 1),
    ],
)
def test_demo_fails_when_a_slot_per_request_is_no_better_or_loses_one(found: Run, complaints: int) -> None:
    assert len(per_request.broken_promises(run_that_used(0.5), found)) == complaints


@pytest.mark.parametrize(("done", "peak", "complaints"), [(12, 3, 0), (11, 3, 1), (12, 4, 1), (12, 2, 1), (0, 0, 2)])
def test_demo_fails_when_two_machines_did_not_keep_one_cap(done: int, peak: int, complaints: int) -> None:
    assert len(machines.broken_promises(done, peak)) == complaints


def run_with_path(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a script where PATH has the few tools it uses beside Python, and the given directory before them."""
    tools = directory / "tools"
    tools.mkdir()
    for tool in ("dirname", "head", "sh"):
        tools.joinpath(tool).symlink_to(shutil.which(tool) or tool)
    return subprocess.run(
        [SCRIPTS / script], env=os.environ | {"PATH": f"{directory}:{tools}"}, capture_output=True, text=True
    )


def fake_python(directory: Path, name: str, body: str) -> None:
    program = directory / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("script", ["test", "demo", "lint"])
def test_script_without_a_python_that_is_new_enough_says_so(script: str, tmp_path: Path) -> None:
    pretends = f'exec {shlex.quote(sys.executable)} -I -c "import sys; sys.version_info = (3, 9, 1); $3"'
    fake_python(tmp_path, "python3", f'[ "$1" = --version ] && echo Python 3.9.1 && exit\n{pretends}')
    done = run_with_path(script, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}: leasecap needs Python 3.11 or newer")
    assert "python3 is Python 3.9.1" in done.stderr


def test_script_passes_over_a_shim_with_no_python_behind_it(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", "exit 127")
    fake_python(tmp_path, "python3.13", "exit 127")
    fake_python(tmp_path, "python3.12", '[ "$2" = -c ] && exit 0; echo "3.12 was asked" >&2; exit 5')
    done = run_with_path("demo", tmp_path)
    assert (done.returncode, done.stderr) == (1, "3.12 was asked\n")


def pythons(tmp_path: Path, *names: str, wanted: str = "") -> subprocess.CompletedProcess[str]:
    """What `.ci/run` finds where these are on PATH, all of them this Python but for those in whose name it isn't."""
    for name in names:
        runs = name in ("python3", f"python3.{sys.version_info.minor}")
        fake_python(tmp_path, name, f'exec {shlex.quote(sys.executable)} "$@"' if runs else "exit 127")
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path), "LEASECAP_PYTHONS": wanted}
    return subprocess.run(
        [sys.executable, "-I", SCRIPTS / "_pythons.py"], env=os.environ | env, capture_output=True, text=True
    )


THIS = f"3.{sys.version_info.minor}"


def test_pythons_of_path_that_run_are_found_once_and_a_shim_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    done = pythons(tmp_path, "python3", f"python{THIS}", "python3.99", "python3.6")
    [line] = done.stdout.splitlines()
    assert line.split()[0] == ".".join(map(str, sys.version_info[:3]))
    assert "3.99" in done.stderr and "3.6" not in done.stderr
    assert done.returncode == 0


def test_python_that_must_be_there_and_is_not_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    assert pythons(tmp_path, "python3", wanted=THIS).returncode == 0
    done = pythons(tmp_path, "python3", wanted=f"{THIS}, 3.98")
    assert done.returncode == 1
    assert "LEASECAP_PYTHONS asks for 3.98" in done.stderr


def test_script_takes_the_python_that_it_is_given_or_none(tmp_path: Path) -> None:
    fake_python(tmp_path, "python3", "exit 127")
    fake_python(tmp_path, "python3.12", '[ "$2" = -c ] && exit 0; echo "3.12 was asked" >&2; exit 5')
    env = os.environ | {"PYTHON": str(tmp_path / "python3.12")}
    assert "3.12 was asked" in subprocess.run([SCRIPTS / "test"], env=env, capture_output=True, text=True).stderr
    env["PYTHON"] = str(tmp_path / "python3")
    done = subprocess.run([SCRIPTS / "test"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith(f"test: PYTHON is {tmp_path / 'python3'}")) == (1, True)
