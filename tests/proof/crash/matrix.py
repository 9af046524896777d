"""All scenes at all points: a server that forks a stage for each, and a table of what came of it.

Run by ``scripts/crash-matrix``, which plays the whole matrix, and by a test, which plays a part.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from crash.effects import CountedEffects, Points, is_look
from crash.puppets import die_with_parent
from crash.scenes import SCENES
from crash.stage import play
from leasecap._decisions import grants, polling
from leasecap._file_store import open_root
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from crash.scenes import Scene

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
AT_ONCE = 4
"""Stages at a time: most of what they do is wait."""
SOME = 20
"""A test run strikes at every 20th effect that changes something, besides those that `sample` chooses for a reason."""

# Here once, and not in each of some thousand processes.
_LOADED_WHEN_NEEDED = ("leasecap._redact", "leasecap._status.read", "tomllib", "encodings.ascii")


def sample(scripts: dict[str, list[str]]) -> dict[str, list[int]]:
    """What a test run has time for: each effect that changes something once after each other, and some more."""
    met: set[tuple[str, str]] = set()
    chosen: dict[str, list[int]] = {}
    for scene, labels in scripts.items():
        changes = [number for number, label in enumerate(labels) if not is_look(label)]
        chosen[scene] = changes[::SOME]
        for before, number in itertools.pairwise(changes):
            pair = labels[before], labels[number]
            if pair not in met:
                met.add(pair)
                chosen[scene].append(number)
        chosen[scene] = sorted(set(chosen[scene]))
    return chosen


class Server:
    """Plays scenes in forked processes, some at a time."""

    def __init__(self, lock: str, directory: Path) -> None:
        self.lock = lock
        self._directory = directory
        self._points = Points()
        self._number = 0
        self._running: dict[int, tuple[int, tuple[Any, ...], bytes]] = {}
        runtime.own.effects = CountedEffects(self._points)
        # Nothing here is about how long; what takes seconds takes a tenth of it, for all processes alike.
        grants.ACKNOWLEDGE_WITHIN, polling.FAR_LOOK = 0.4, 0.2
        for module in _LOADED_WHEN_NEEDED:
            importlib.import_module(module)
        gc.freeze()

    def play_all(self, jobs: Iterator[tuple[Scene, str, int | None]]) -> Iterator[tuple[Scene, str, int | None, Any]]:
        """Yields what came of each, as it comes."""
        more = True
        while more or self._running:
            while more and len(self._running) < AT_ONCE:
                job = next(jobs, None)
                if job is None:
                    more = False
                else:
                    self._start(job)
            if self._running:
                yield from self._collect()

    def _start(self, job: tuple[Scene, str, int | None]) -> None:
        scene, how, fatal = job
        self._number += 1
        directory = self._directory / str(self._number)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            die_with_parent()
            open_root._CLEAR_UP_IN = 10**12  # never: the clock decides when, and a script must do the same each time
            directory.mkdir()
            try:
                result = play(scene, self.lock, fatal, SIGNALS[how], directory, self._points)
            except BaseException:
                result = {"broken": traceback.format_exc()}
            try:
                os.write(write, json.dumps(result).encode())
            finally:
                os._exit(0)
        os.close(write)
        self._running[read] = pid, job, b""

    def _collect(self) -> Iterator[tuple[Scene, str, int | None, Any]]:
        for fd in select.select(list(self._running), [], [])[0]:
            pid, job, data = self._running[fd]
            more = os.read(fd, 1 << 20)
            if more:
                self._running[fd] = pid, job, data + more
            else:
                del self._running[fd]
                os.close(fd)
                os.waitpid(pid, 0)
                yield *job, json.loads(data or b'{"broken": "the stage collapsed"}')


def run(
    lock: str, directory: Path, *, hows: list[str], quick: bool, scene: str = "", point: int | None = None
) -> Iterator[dict[str, Any]]:
    """Strike; yields a fact per point."""
    server = Server(lock, directory)
    scenes = {each.name: each for each in SCENES if scene in each.name}
    scripts: dict[str, list[str]] = {name: [] for name in scenes}
    for played, _, _, result in server.play_all(iter([(each, "kill", None) for each in scenes.values()])):
        yield {"scene": played.name, "how": "undisturbed", **result}
        scripts[played.name] = result.get("seen", [])
    chosen = sample(scripts) if quick else {name: range(len(labels)) for name, labels in scripts.items()}
    jobs = (
        (each, how, number)
        for name, each in scenes.items()
        for how in hows
        for number in chosen[name]
        if point in (None, number)
    )
    for played, how, number, result in server.play_all(jobs):
        assert number is not None
        expected = scripts[played.name][number]
        fact = {"scene": played.name, "how": how, "number": number, "point": expected}
        if "broken" not in result and result.get("label") != expected:
            result = {"broken": f"struck at {result.get('label')!r}: the script's effects differ from run to run"}
        yield {**fact, **result}


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill, or stop and continue, a process before every effect it has.")
    parser.add_argument("--quick", action="store_true", help="only what the tests have time for")
    parser.add_argument("--lock", choices=("os", "directory"), action="append", help="kind of lock (default: both)")
    parser.add_argument("--how", choices=tuple(SIGNALS), action="append", help="what happens there (default: both)")
    parser.add_argument("--scene", default="", help="only scenes with this in their name")
    parser.add_argument("--point", type=int, help="only the point of this number")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each point")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    broken = 0
    for lock in options.lock or ("os", "directory"):
        began = time.monotonic()
        facts = []
        with tempfile.TemporaryDirectory(prefix="leasecap-crash-") as directory:
            for fact in run(
                lock,
                Path(directory),
                hows=options.how or list(SIGNALS),
                quick=options.quick,
                scene=options.scene,
                point=options.point,
            ):
                facts.append(fact)
                if options.json:
                    print(json.dumps(fact), flush=True)
                elif "broken" in fact:
                    print(failure(lock, fact), flush=True)
        broken += sum("broken" in fact for fact in facts)
        if not options.json:
            print(table(lock, facts, time.monotonic() - began))
    return 1 if broken else 0


def failure(lock: str, fact: dict[str, Any]) -> str:
    """What broke, and the command that shows it again."""
    again = f"scripts/crash-matrix --lock {lock} --scene {fact['scene']!r}"
    if "number" in fact:
        again += f" --how {fact['how']} --point {fact['number']}"
    return f"{fact['how']} at {fact.get('point')}\n{fact['broken']}\nagain: {again}\n"


def table(lock: str, facts: list[dict[str, Any]], seconds: float) -> str:
    """What a person reads."""
    struck = [fact for fact in facts if fact["how"] != "undisturbed"]
    lines = [f"lock = {lock}: {len(struck)} points in {seconds:.0f} s"]
    for scene in SCENES:
        mine = [fact for fact in facts if fact["scene"] == scene.name]
        if mine:
            times = sorted(fact["full_after"] for fact in mine if "full_after" in fact) or [0.0]
            broken = sum("broken" in fact for fact in mine)
            lines.append(
                f"  {scene.name:28} {len(mine) - 1:4} points, {broken} broken;"
                f" full again after {times[len(times) // 2]:.3f} s, at most {times[-1]:.3f} s"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
