"""Let processes share caps on servers to which things happen, and draw what a referee saw."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from redis_server import SOFTWARE

from _machines.machines import NoMachinesError
from _soak.__main__ import distribution, violations

from . import interleavings
from .round import POOLS, REFILL_WITHIN, Plan, Round
from .scenes import SCENES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from _soak.referee import Verdict

PARTS = (*SCENES, "interleavings")
FULL, TINY = 70.0, 6.0
"""Seconds for which faults are made in each scene."""


class Given(NamedTuple):
    """What was asked for."""

    parts: list[str]
    software: str
    seed: int
    tiny: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/redis-faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)} (all)")
    parser.add_argument("--tiny", action="store_true", help="a minute and a half, in place of less than ten")
    parser.add_argument("--software", choices=SOFTWARE, default="redis", help="which server (redis)")
    parser.add_argument("--seed", type=int, help="what is done to whom and when; it is printed, to do it again")
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"no part is called {unknown[0]}: {', '.join(PARTS)}")
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))  # an exception, so that all is cleared up
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        del os.environ[name]
    asked = Given(given.parts or list(PARTS), given.software, seed, given.tiny)
    print(f"{asked.software}; {', '.join(asked.parts)}; seed {seed}", flush=True)
    try:
        broken = [line for part in asked.parts for line in play(part, asked)]
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except (pytest.skip.Exception, pytest.fail.Exception) as trouble:  # a server that is missing, or doesn't start
        print(f"redis-faults: {trouble}", file=sys.stderr)
        return 1
    for line in broken:
        print(f"redis-faults: {line}", file=sys.stderr)
    return int(bool(broken))


def play(part: str, given: Given) -> list[str]:
    """Play one part; returns what was promised and not kept. Then the evidence is kept."""
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="leasecap-redis-faults-"))
    keep = True
    try:
        if part == "interleavings":
            broken = interleavings.play(given.software, directory, tiny=given.tiny)
        else:
            broken = play_scene(part, directory, given, began)
        keep = bool(broken)
    except NoMachinesError as reason:
        print(f"\n{part}: skipped: {reason}", flush=True)
        return []
    except (KeyboardInterrupt, SystemExit, pytest.skip.Exception):
        keep = False
        raise
    finally:
        if keep:
            print(f"redis-faults: {part}: the evidence is kept in {directory}; seed {given.seed}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return [f"{part}: {line}" for line in broken]


def play_scene(part: str, directory: Path, given: Given, began: float) -> list[str]:
    plan = Plan(TINY if given.tiny else FULL, given.seed)
    with SCENES[part](given.software, directory / "servers", POOLS) as scene:
        one = Round(directory, scene, plan)
        try:
            verdict = one.run()
            lost = {pool: number for pool, number in one.slots_lost().items() if number}
        finally:
            one.crew.end_all()
    print(f"\n{part}", *table(one, verdict, lost, time.monotonic() - began), sep="\n", flush=True)
    return violations([*one.complaints, *(one.losses() if verdict.told_lost else ())], verdict, lost)


def table(one: Round, verdict: Verdict, lost: Mapping[str, int], seconds: float) -> list[str]:
    """The summary."""
    done = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in one.done.items() if number)
    refills = [time for times in verdict.refills.values() for time in times]
    faults = one.faults
    rows: list[tuple[str, object, str]] = [
        ("operations", verdict.operations, f"in {seconds:.0f} s, by {one.crew.started} processes"),
        ("", verdict.by_tasks, f"by tasks, {verdict.by_commands} by commands, {verdict.borrowed} on a lent slot"),
        ("", verdict.withdrawn, f"more gave up, {verdict.barred} of them since the server was away"),
        ("to processes", faults.kills, f"kills, {faults.stops} stops, {faults.blocks} blocks of an event loop"),
        ("to servers", sum(one.done.values()), done),
        ("overlaps", len(verdict.overlaps), "must be 0"),
        ("told lost", len(verdict.told_lost), "must be 0"),
        ("slots lost", sum(map(abs, lost.values())), "must be 0"),
        ("refills late", len(verdict.late), f"must be 0: more than {REFILL_WITHIN:g} s after the last fault"),
        ("worst refill", *distribution(refills, "of all")),
    ]
    return [f"  {name:14} {value!s:>8}   {about}" for name, value, about in rows]


if __name__ == "__main__":
    sys.exit(main())
