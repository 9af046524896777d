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
from .limiters import NAMES, ON_A_SERVER, load
from .server import process
from .workloads import gate_workloads, server_workloads, workloads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .targets import Results

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda caught, _: sys.exit(128 + caught))  # so that no worker is left behind
    all_names = list(dict.fromkeys((*NAMES, *ON_A_SERVER)))
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="only show that everything runs; the figures mean nothing")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--gate", action="store_true", help="the workloads of run --per-request, from L on")
    family.add_argument("--store", choices=("redis",), help="the workloads of pools on a server, from T on")
    parser.add_argument("--only", metavar="A,B", help="these workloads")
    parser.add_argument("--limiters", metavar="NAME,...", help=f"of {', '.join(all_names)}")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where the limiters keep their files")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and its picture")
    asked = parser.parse_args()
    locks, gate, server = workloads(asked.tiny), gate_workloads(asked.tiny), server_workloads(asked.tiny)
    known = locks | gate | server
    compared = {**dict.fromkeys(locks, NAMES), **dict.fromkeys(gate, ()), **dict.fromkeys(server, ON_A_SERVER)}
    # All of them only where that takes no time.
    usual = gate if asked.gate else server if asked.store else known if asked.tiny else locks
    chosen = asked.only.split(",") if asked.only else list(usual)
    wanted = asked.limiters.split(",") if asked.limiters else all_names
    if wrong := {*chosen} - {*known} | {*wanted} - {*all_names}:
        parser.error(f"unknown: {', '.join(sorted(wrong))}")
    if {*chosen} & {*server} and not process.is_there():
        if asked.store or asked.only:
            parser.error(f"no {process.PROGRAM} on PATH: apt install redis-server")
        print(f"left out: {', '.join(server)} (no {process.PROGRAM})")
        chosen = [name for name in chosen if name not in server]
    needed = {limiter for name in chosen for limiter in compared[name]}
    present = {name for name in wanted if name in needed and is_present(name)}
    head = report.machine(asked.dir) + ([process.about()] if {*chosen} & {*server} else [])
    print(*head, sep="\n")
    results = {}
    with scratch(asked.dir) as base:
        for name in chosen:
            print(f"\n{name}: {known[name].title}", flush=True)
            results[name] = known[name].run(base, [limiter for limiter in compared[name] if limiter in present])
            print(*report.in_columns(report.table(results[name])), sep="\n", flush=True)
    if asked.tiny:
        return 0
    print("\nTargets", *report.in_columns(report.verdict_table(results)), sep="\n")
    if asked.write:
        write(results, {name: workload.title for name, workload in known.items()}, head, marks(asked))
    return 0


def marks(asked: argparse.Namespace) -> tuple[str, str]:
    """Where on the page the results stand."""
    if asked.gate:
        return report.GATE_BEGIN, report.GATE_END
    if asked.store:
        return report.SERVER_BEGIN, report.SERVER_END
    return report.BEGIN, report.END


def write(results: Results, titles: Mapping[str, str], head: Sequence[str], between: tuple[str, str]) -> None:
    """Put the results into the page."""
    page = DOCS / "benchmarks.md"
    if between != (report.BEGIN, report.END):
        report.put_into(page, report.page(results, titles, head), *between)
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
