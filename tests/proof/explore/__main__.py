"""Explore deeply and print the table, or replay one schedule: see ``scripts/explore``."""

from __future__ import annotations

import argparse
import logging
import sys

from explore.bounds import QUICK, deeper
from explore.explorer import Explorer, Failure, Figures
from explore.scenarios import SCENARIOS
from explore.trace import replay

HEAD = ("scenario", "switches", "faults", "schedules", "states", "seconds")


def main() -> int:
    """Returns the exit status: 1 when an invariant does not hold."""
    parser = argparse.ArgumentParser(prog="scripts/explore", description=__doc__)
    parser.add_argument("scenario", nargs="*", choices=[*SCENARIOS, []], help="which ones (all of them)")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time for each bound (60)")
    parser.add_argument("--quick", action="store_true", help="the bounds of the normal tests")
    parser.add_argument("--replay", metavar="LINE", help="tell the schedule that a failure printed")
    given = parser.parse_args()
    if given.replay:
        told = replay(given.replay)
        print(told)
        return int("***" in told)
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    logging.getLogger("leasecap").addHandler(logging.NullHandler())  # what is told on the way is no finding
    failed = 0
    for name in given.scenario or SCENARIOS:
        try:
            print(row(explore(name, None if given.quick else given.seconds)), flush=True)
        except Failure as failure:
            failed = 1
            print(f"| {name} | | | | | FAILED |\n{failure}\n{replay(failure.schedule)}", flush=True)
    return failed


def explore(name: str, seconds: float | None) -> Figures:
    """The figures of the widest bound that was explored to its end; ``seconds`` None: of the quick one."""
    scenario = SCENARIOS[name]
    if seconds is None:
        return Explorer(scenario, QUICK[name]).run()
    best: Figures | None = None
    for bound in deeper(scenario, seconds):
        figures = Explorer(scenario, bound).run()
        if best is not None and not figures.complete:
            break
        best = figures
    assert best is not None
    return best


def row(figures: Figures) -> str:
    """One line of the table."""
    switches = "any" if figures.bound.switches is None else figures.bound.switches
    cut = "" if figures.complete else " (cut short)"
    cells = (figures.scenario, switches, figures.bound.faults, figures.schedules, figures.states)
    return "| " + " | ".join(map(str, cells)) + f" | {figures.seconds:.1f}{cut} |"


if __name__ == "__main__":
    sys.exit(main())
