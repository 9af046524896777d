"""Run the workloads, print tables, and write docs/benchmarks.md when asked to."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

from . import picture, report
from .fleet import scratch
from .limiters import NAMES, load
from .workloads import workloads

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda caught, _: sys.exit(128 + caught))  # so that no worker is left behind
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs; the figures mean nothing")
    parser.add_argument("--only", metavar="A,B", help="these workloads")
    parser.add_argument("--limiters", metavar="NAME,...", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the limiters keep their files")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its picture")
    asked = parser.parse_args()
    known = workloads(asked.tiny)
    chosen = asked.only.split(",") if asked.only else list(known)
    wanted = asked.limiters.split(",") if asked.limiters else list(NAMES)
    if wrong := {*chosen} - {*known} | {*wanted} - {*NAMES}:
        parser.error(f"unknown: {', '.join(sorted(wrong))}")
    present = [name for name in wanted if is_present(name)]
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
        titles = {name: workload.title for name, workload in known.items()}
        drawn = DOCS / "benchmarks.svg"
        drawn.write_text(picture.draw(results), encoding="utf-8")
        report.put_into(DOCS / "benchmarks.md", report.page(results, titles, head, drawn.name))
    return 0


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
