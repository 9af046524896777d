"""Killed, or stopped and continued, before every effect of an operation: the cap holds, no slot is lost.

Here is what there is time for; `scripts/crash-matrix` strikes at every point there is. Each point is played by real
processes on a root of its own (`crash.stage`) and judged by what really ran.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from crash.effects import CountedDirectory, CountedEffects, methods
from crash.matrix import failure, sample
from crash.scenes import SCENES
from places import IMPORTABLE

from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, SIGKILL and SIGSTOP")


@pytest.mark.long
@pytest.mark.timeout(600)  # it takes 15 s, and a machine that many share takes its time
@pytest.mark.parametrize("how", ["kill", "stop"])
@pytest.mark.parametrize("lock", ["os", "directory"])
def test_struck_at_any_effect_a_process_neither_breaks_the_cap_nor_keeps_a_slot(
    lock: str, how: str, record_property: Callable[[str, object], None]
) -> None:
    command = [sys.executable, "-m", "crash.matrix", "--quick", "--json", "--lock", lock, "--how", how]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": IMPORTABLE}, capture_output=True, text=True)
    facts = [json.loads(line) for line in done.stdout.splitlines()]
    broken = [failure(lock, fact) for fact in facts if "broken" in fact]
    assert not broken and done.returncode == 0, "\n".join((*broken, done.stderr))
    # What the scripts do when nobody strikes says which points there are; none of the chosen ones is missing.
    seen = {fact["scene"]: fact["seen"] for fact in facts if fact["how"] == "undisturbed"}
    scripts = {scene.name: seen[scene.name] for scene in SCENES}
    struck = {(fact["scene"], fact["number"]) for fact in facts if fact["how"] == how}
    assert struck == {(scene, number) for scene, numbers in sample(scripts).items() for number in numbers}
    assert len(struck) >= 100
    assert all(fact["label"] == fact["point"] for fact in facts if fact["how"] == how)
    waits = sorted(fact["full_after"] for fact in facts if "full_after" in fact)
    record_property("points", len(struck))
    record_property("full_again_after_s", {"median": waits[len(waits) // 2], "most": waits[-1]})


def test_the_matrix_counts_every_effect_there_is() -> None:
    assert methods(Directory) <= set(vars(CountedDirectory))
    assert methods(Effects) <= set(vars(CountedEffects))
