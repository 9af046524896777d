"""Let processes share caps while they are killed and stopped, and draw what a referee saw; see ``scripts/soak``."""

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

from .conductor import Conductor
from .plan import POOLS, Plan
from .referee import REFILL_WITHIN, Referee, Verdict, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, metavar="N", help="how long faults are made (1)")
    parser.add_argument("--seed", type=int, help="what is done to whom and when; it is printed, to do it again")
    given = parser.parse_args()
    if not 0 < given.minutes < 1e6:
        parser.error("--minutes: a number above 0")
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    return soak(Plan(given.minutes * 60, seed))


def soak(plan: Plan) -> int:
    """Returns the exit status: 1 when a promise was broken, and then the evidence is kept."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))  # an exception, so that all is cleared up
    directory = Path(tempfile.mkdtemp(prefix="leasecap-soak-"))
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        del os.environ[name]
    os.environ["LEASECAP_HOME"] = str(directory / "root")
    print(
        f"{plan.sync} processes with threads and forks, {plan.tasks} with event loops, {plan.commands} of "
        f"`leasecap run`, {plan.crowds} with up to 50 tasks at once, {plan.teams} with up to 20 threads; "
        f"{len(POOLS)} pools; {plan.seconds:g} s, with faults in every other while; seed {plan.seed}",
        flush=True,
    )
    began = time.monotonic()
    conductor = Conductor(directory, plan)
    keep = True
    try:
        conductor.run()
        lost = {pool: number for pool, number in conductor.slots_lost().items() if number}
        verdict = Referee().judge(parse(Path(conductor.journal_path).read_text().splitlines()))
        print("\n".join(table(conductor, verdict, lost, time.monotonic() - began)))
        broken = violations(conductor.complaints, verdict, lost)
        for line in broken:
            print(f"soak: {line}", file=sys.stderr)
        keep = bool(broken)
    except KeyboardInterrupt:
        keep = False
        return 128 + signal.SIGINT
    except SystemExit:
        keep = False
        raise
    finally:
        conductor.crew.end_all()
        if keep:
            print(f"soak: the journal and the state are kept in {directory}; seed {plan.seed}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return int(keep)


def table(conductor: Conductor, verdict: Verdict, lost: Mapping[str, int], seconds: float) -> list[str]:
    """The summary."""
    faults = conductor.faults
    rows: list[tuple[str, object, str]] = [
        ("operations", verdict.operations, f"in {seconds:.0f} s, by {conductor.crew.started} processes"),
        ("", verdict.by_tasks, "by tasks of event loops"),
        ("", verdict.by_commands, "by commands under `leasecap run`"),
        ("", verdict.borrowed, "on a lent slot"),
        ("", verdict.declared, "asked with a limit of their own"),
        ("", verdict.withdrawn, "more gave up: timed out, cancelled"),
        ("kills", faults.kills, f"of {verdict.killed_holding} holders and {verdict.killed_waiting} waiters"),
        ("stops", faults.stops, f"{verdict.barred} calls were told of one stopped inside the pool's own lock"),
        ("", verdict.barred_by_nobody, "of them while nobody was: it was only slow"),
        ("", faults.inside, "of both struck who had just entered that lock"),
        ("blocks", faults.blocks, "of an event loop with many tasks"),
        ("steals", faults.thefts, "of a lock directory, from the dead"),
        ("limits changed", conductor.limit_changes, f"and status looked {conductor.looks} times"),
        ("overlaps", len(verdict.overlaps), "must be 0"),
        ("slots lost", sum(map(abs, lost.values())), "must be 0"),
        ("refills late", len(verdict.late), f"must be 0: more than {milliseconds(REFILL_WITHIN)} after the last fault"),
        ("worst refill", *distribution(verdict.refills["killed"], "after kills alone")),
        ("", *distribution(verdict.refills["disturbed"], "where somebody was stopped or blocked")),
        ("", *distribution(verdict.refills["calm"], "of all others")),
    ]
    return [f"  {name:14} {value!s:>8}   {about}" for name, value, about in rows]


def distribution(times: list[int], about: str) -> tuple[str, str]:
    """The worst of these times, and what to say beside it."""
    ordered = sorted(times) or [0]
    median, percentile = (milliseconds(ordered[len(ordered) * part // 100]) for part in (50, 99))
    return milliseconds(ordered[-1]), f"{about}: median {median}, p99 {percentile}, of {len(times)}"


def milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.0f} ms"


def violations(complaints: Iterable[str], verdict: Verdict, lost: Mapping[str, int]) -> list[str]:
    """What was promised and not kept."""
    broken = [*verdict.overlaps, *verdict.late, *verdict.told_lost, *complaints]
    for pool, number in lost.items():
        broken.append(f"{pool}: at the end {number} slots are missing" if number > 0 else f"{pool}: {-number} too many")
    if not verdict.operations:
        broken.append("nobody ever got a slot")
    return broken


if __name__ == "__main__":
    sys.exit(main())
