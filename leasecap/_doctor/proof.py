"""The proof: two processes compete for one slot, and their own clocks say whether both ever held it at once."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from leasecap._config.pool_name import pool_name
from leasecap._config.seal import seal
from leasecap._config.store_address import FILES
from leasecap._doctor.check import Check
from leasecap._doctor.place import scratch
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    Holds = Sequence[tuple[int, int]]

POOL = "doctor"
LIMIT = 1
_WORDS = {"os": "OS locks", "directory": "lock directory"}
_TOO_LONG = 15.0  # seconds for all of it; a prover stops by itself after 3 s
_MORE_FIGHTS = 2  # more tries, if the two did not want the slot at the same time


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the two lists of hold intervals show.

    :ivar rounds: how often each of the two held the slot.
    :ivar overlaps: holds that began while the other process held.
    :ivar hand_offs: nanoseconds from the end of a hold to the beginning of the other's, shortest first.
    """

    rounds: tuple[int, int]
    overlaps: int
    hand_offs: tuple[int, ...]


def judge(one: Holds, other: Holds) -> Judgement:
    """Compare the intervals, (begin, end) in nanoseconds of one clock for both processes."""
    holds = sorted([(*hold, 0) for hold in one] + [(*hold, 1) for hold in other])
    ends = [-1, -1]
    overlaps = 0
    hand_offs = []
    before = None
    for begin, end, who in holds:
        gap = begin - ends[1 - who]
        if gap < 0:
            overlaps += 1
        elif before == 1 - who:
            hand_offs.append(gap)
        ends[who] = max(ends[who], end)
        before = who
    return Judgement((len(one), len(other)), overlaps, tuple(sorted(hand_offs)))


def met(one: Holds, other: Holds) -> bool:
    """Whether both wanted the slot at the same time; else nothing is proved by the intervals."""
    return bool(one and other) and max(one[0][0], other[0][0]) < min(one[-1][1], other[-1][1])


def proof(ground: str, lock: str) -> Check:
    """Let two processes compete for the one slot of a pool, in a root made for that in ``ground``.

    :param lock: the kind of lock, as in config.toml.
    """
    with scratch(ground) as root:
        text = f'[defaults]\nlimit = {LIMIT}\nlock = "{lock}"\n'
        with open(os.path.join(root, "config.toml"), "w", encoding="ascii") as file:
            file.write(text)
        seal(root, text)
        one, other = _fight(root)
        for _ in range(_MORE_FIGHTS):
            if isinstance(one, str) or isinstance(other, str) or met(one, other):
                break
            one, other = _fight(root)  # on a busy machine one process may be done before the other has begun
        if isinstance(one, str) or isinstance(other, str):
            found = f"a process that was to take the slot could not: {one if isinstance(one, str) else other}"
            return Check("proof", "bad", found, "see the other findings; if all are ok, please report this one")
        judgement = judge(one, other)
        kind = _kind_of(root)
    if all(judgement.rounds) and not judgement.overlaps and not met(one, other):
        found = "nothing is proved: two processes never wanted the slot at the same time, the machine is too busy"
        return Check("proof", "note", found, "try again")
    return finding(judgement, _WORDS[kind])


def _kind_of(root: str) -> str:
    pool = runtime.pictures(root).pool(pool_name(POOL), None)
    assert pool is not None  # both have used it
    return pool.lock


def finding(judgement: Judgement, kind: str) -> Check:
    """The judgement in words."""
    holds = sum(judgement.rounds)
    if judgement.overlaps:
        return Check(
            "proof",
            "bad",
            f"two processes held a single slot at the same time, {judgement.overlaps} times in {holds} holds ({kind})",
            "locks don't exclude here: put the root on a local disk",
        )
    if not all(judgement.rounds):
        return Check(
            "proof",
            "bad",
            f"one of two processes never got a slot that it should have got in its turn ({kind})",
            "try again; if the machine is not overloaded, put the root on a faster, local disk",
        )
    typical = judgement.hand_offs[len(judgement.hand_offs) // 2] / 1e6 if judgement.hand_offs else 0.0
    return Check(
        "proof",
        "ok",
        f"2 processes held 1 slot {holds} times, never at once ({kind}); handed on in {typical:.1f} ms (p50)",
    )


def _fight(root: str) -> tuple[Holds | str, Holds | str]:
    """What each prover reports: its holds, or what went wrong."""
    import subprocess
    import threading

    # The children must find this very package.
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "LEASECAP_HOME": root, "LEASECAP_STORE": FILES, "PYTHONPATH": paths}
    provers: list[subprocess.Popen[str]] = []
    timer = threading.Timer(_TOO_LONG, _kill, (provers,))
    try:
        for _ in range(2):
            provers.append(  # noqa: PERF401  # the first must be known if the second can't be started
                subprocess.Popen(
                    # -P: a file in the present directory that is named like a module must not be imported.
                    [sys.executable, "-P", "-m", "leasecap._doctor.prover"],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        timer.start()
        for prover in provers:
            assert prover.stdout is not None
            prover.stdout.readline()  # wait until it has started, so that neither is done before the other begins
        for prover in provers:
            _go(prover)
        return _report(provers[0]), _report(provers[1])
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


def _go(prover: subprocess.Popen[str]) -> None:
    assert prover.stdin is not None
    try:
        prover.stdin.write("go\n")
        prover.stdin.flush()
    except BrokenPipeError:
        pass  # the process has ended, and its report says why


def _report(prover: subprocess.Popen[str]) -> Holds | str:
    import json

    output, errors = prover.communicate()
    try:
        report = json.loads(output)
        if isinstance(report, dict):
            return str(report["error"])
        return [(int(begin), int(end)) for begin, end in report]
    except (ValueError, KeyError, TypeError):
        last = errors.strip().splitlines()[-1:] or [f"exit status {prover.returncode}"]
        return f"killed after {_TOO_LONG:g} s" if prover.returncode == -9 else last[0]
