"""Run the workloads, print tables, and write docs/benchmarks.md when asked to."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import picture, report
from .fleet import scratch
from .limiters import NAMES, load
from .workloads import gate_workloads, workloads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .targets import Results

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda caught, _: sys.exit(128 + caught))  # so that no worker is left behind
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs; the figures mean nothing")
    parser.add_argument("--gate", action="store_true", help="the workloads of run --per-request, from L on")
    parser.add_argument("--only", metavar="A,B", help="these workloads")
    parser.add_argument("--limiters", metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the limiters keep their files")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its picture")
    asked = parser.parse_args()
    locks, gate = workloads(asked.tiny), gate_workloads(asked.tiny)
    known = locks | gate
    # All of them only where that takes no time.
    chosen = asked.only.split(",") if asked.only else list(gate if asked.gate else known if asked.tiny else locks)
    wanted = asked.limiters.split(",") if asked.limiters else list(NAMES)
    if wrong := {*chosen} - {*known} | {*wanted} - {*NAMES}:
        parser.error(f"unknown: {', '.join(sorted(wrong))}")
    present = [name for name in wanted if is_present(name)] if {*chosen} & {*locks} else []
    head = report.machine(asked.dir)
    print(*head, sep="\n")
    results = {}
    with scratch(asked.dir) as base:
        for name in chosen:
            print(f"\n{name}: {known[name].title}", flush=True)
            results[name] = known[name].run(base, present)
            print(*report.in_columns(report.table(results[name])), sep="\n", flush=True)
    if asked.tiny:
        return 0
    print("\nTargets", *report.in_columns(report.verdict_table(results)), sep="\n")
    if asked.write:
        write(results, {name: workload.title for name, workload in known.items()}, head, gate=asked.gate)
    return 0


def write(results: Results, titles: Mapping[str, str], head: Sequence[str], *, gate: bool) -> None:
    """Put the results into the page."""
    page = DOCS / "benchmarks.md"
    if gate:
        report.put_into(page, report.page(results, titles, head), report.GATE_BEGIN, report.GATE_END)
        return
    drawn = DOCS / "benchmarks.svg"
    drawn.write_text(picture.draw(results), encoding="utf-8")
    report.put_into(page, report.page(results, titles, head, drawn.name))


def is_present(name: str) -> bool:
    try:
        load(name)
    except (ImportError, AttributeError) as error:  # not installed, or too old to have it
        print(f"left out: {name} ({error})")
        return False
    return True


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
