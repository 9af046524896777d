"""Workloads P and Q: how much of a cap real agents use, and how often the provider refuses them.

The provider is the one of the tests: it refuses what is above its cap, and its own record judges.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..fleet import scratch
from . import clients, ways

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "support"))

from provider import Provider
from provider_formats import answer
from provider_steps import stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider_steps import Request, Step

    from .clients import Session

CAP = 2
SHORTEST, LONGEST = 1.0, 2.0  # seconds that an answer takes
PATIENCE = 180.0  # seconds for all
SEED = 14

Interval = tuple[float, float]
Wrap = Callable[[Sequence[str]], list[str]]


def lasted(served: Sequence[Interval]) -> float:
    """Seconds from the first request to the end of the last; nan if there was none."""
    return max(end for _, end in served) - min(begin for begin, _ in served) if served else math.nan


def used(served: Sequence[Interval], cap: int) -> float:
    """The share of the cap that was in use in that time."""
    return sum(end - begin for begin, end in served) / cap / lasted(served)


class Teacher:
    """Answers late, and tells Claude Code to read a file until it has done so often enough."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Step:
        with self._lock:
            takes = self._random.uniform(SHORTEST, LONGEST)
        if not request.costs:
            return answer(request)
        read = bytes(request.body).count(b'"tool_result"')
        if b'"Read"' in request.body and read < clients.REQUESTS - 1:
            return slowly(stream(*reading(read)), takes)
        return slowly(answer(request), takes)


def slowly(step: Step, takes: float) -> Step:
    """With its time before it and in the middle of it."""
    middle = len(step) // 2
    return (takes / 2, *step[:middle], takes / 2, *step[middle:])


def reading(number: int) -> list[bytes]:
    """Events of an answer that has Claude Code read the file ``file`` of its directory."""
    usage = {"input_tokens": 5, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": "fake-1", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    tool = {"type": "tool_use", "id": f"toolu_{number}", "name": "Read", "input": {}}
    asked = {"type": "input_json_delta", "partial_json": json.dumps({"file_path": "file"})}
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": message}),
        ("content_block_start", {"index": 0, "content_block": tool}),
        ("content_block_delta", {"index": 0, "delta": asked}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 1}}),
        ("message_stop", {}),
    ]
    return [f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode() for kind, more in events]


def measure(chosen: Sequence[Session], base: str) -> dict[str, dict[str, float]]:
    """Those sessions at once: without leasecap, under a slot for each run, and with one for each request."""
    manners: dict[str, Wrap] = {
        "bare": list,
        "leasecap run": lambda argv: ways.wrapped(CAP, *argv, per_request=False),
        "leasecap run --per-request": lambda argv: ways.wrapped(CAP, *argv),
    }
    return {name: run(chosen, wrap, base) for name, wrap in manners.items()}


def run(chosen: Sequence[Session], wrap: Wrap, base: str) -> dict[str, float]:
    with scratch(base) as directory, Provider(CAP, default=Teacher()) as provider:
        root = {"LEASECAP_HOME": str(Path(directory) / "root")}
        threads = []
        failed: list[str] = []
        for number, session in enumerate(chosen):
            where = Path(directory) / str(number)
            environment = {**clients.home(where, provider.url), **root}
            arguments = (session, wrap, where / "work", environment, failed)
            threads.append(threading.Thread(target=perform, args=arguments, daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            print(f"  {len(failed)} of {len(chosen)} sessions failed: {failed[0]}", flush=True)
        served = [
            (each.arrived, each.ended)
            for each in provider.requests
            if each.costs and not each.refused and each.arrived is not None and each.ended is not None
        ]
        return {
            "use of the cap, %": used(served, CAP) * 100,
            "refused": provider.refused,
            "served": len(served),
            "s from the first request to the last answer": lasted(served),
            "sessions failed": len(failed),
        }


def perform(session: Session, wrap: Wrap, work: Path, environment: Mapping[str, str], failed: list[str]) -> None:
    """One session."""
    for _ in range(session.times):
        try:
            done = subprocess.run(
                wrap(session.argv), cwd=work, env=environment, stdin=subprocess.DEVNULL, timeout=PATIENCE,
                capture_output=True, text=True, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            failed.append(f"{Path(session.argv[0]).name}: not over after {PATIENCE:.0f} s")
            return
        if done.returncode:
            last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
            failed.append(f"{Path(session.argv[0]).name}: {''.join(last)[:200]}")
            return


def claude(number: int, base: str) -> dict[str, dict[str, float]]:
    """P: so many sessions of Claude Code."""
    found = clients.sessions().get("claude")
    if found is None:
        print("left out: Claude Code is neither on PATH nor in build/agents (scripts/agents installs it)")
        return {}
    return measure([found] * number, base)


def mixed(base: str) -> dict[str, dict[str, float]]:
    """Q: those of `clients.MIXED`."""
    found = clients.sessions()
    if lacking := {*clients.MIXED} - {*found}:
        print(f"left out: {', '.join(sorted(lacking))} (scripts/agents installs what is missing)")
        return {}
    return measure([found[name] for name in clients.MIXED], base)
