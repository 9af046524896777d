"""Two processes that compete for the one slot of a pool, each of which reports when it held it."""

from __future__ import annotations

import os
import sys

from leasecap._host.own_code import finding_it

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    Holds = Sequence[tuple[int, int]]

_TOO_LONG = 20.0  # seconds for all of it; a prover stops by itself after 10 s


def compete(pool: str, settings: Mapping[str, str]) -> tuple[Holds | str, Holds | str]:
    """What each prover reports: its holds, or what went wrong.

    :param settings: what to add to their environment.
    """
    import subprocess
    import threading

    environment = finding_it({**os.environ, **settings})
    provers: list[subprocess.Popen[str]] = []
    timer = threading.Timer(_TOO_LONG, _kill, (provers,))
    try:
        for _ in range(2):
            provers.append(  # noqa: PERF401  # the first must be known if the second can't be started
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "leasecap._doctor.prover", pool],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        timer.start()
        for prover in provers:
            _line(prover)  # it has started
        for prover in provers:
            _tell(prover)
        # A client of a server is loaded only now: neither may be done before the other has held for the first time.
        said = [_line(prover) for prover in provers]
        for prover in provers:
            _tell(prover)
        return _report(provers[0], said[0]), _report(provers[1], said[1])
    finally:
        timer.cancel()
        _kill(provers)
        for prover in provers:
            prover.wait()
            for pipe in (prover.stdin, prover.stdout, prover.stderr):
                assert pipe is not None
                pipe.close()


def _kill(provers: Sequence[subprocess.Popen[str]]) -> None:
    for prover in provers:
        prover.kill()


def _line(prover: subprocess.Popen[str]) -> str:
    assert prover.stdout is not None
    return prover.stdout.readline()


def _tell(prover: subprocess.Popen[str]) -> None:
    assert prover.stdin is not None
    try:
        os.write(prover.stdin.fileno(), b".")  # nothing is left in a buffer for its end
    except BrokenPipeError:
        pass  # the process has ended, and its report says why


def _report(prover: subprocess.Popen[str], said: str) -> Holds | str:
    """The last line that the prover prints, which is what it has said already if it never held."""
    import json

    assert prover.stdout is not None
    assert prover.stderr is not None
    # Not by `communicate`, which reads past what a line before it has left in the buffer.
    output, errors = said + prover.stdout.read(), prover.stderr.read()
    prover.wait()
    try:
        report = json.loads(output.rstrip("\n").rpartition("\n")[2])
        if isinstance(report, dict):
            return str(report["error"])
        return [(int(begin), int(end)) for begin, end in report]
    except (ValueError, KeyError, TypeError):
        last = errors.strip().splitlines()[-1:] or [f"exit status {prover.returncode}"]
        return f"killed after {_TOO_LONG:g} s" if prover.returncode == -9 else last[0]
