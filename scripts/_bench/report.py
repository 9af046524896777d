"""Results as tables: for a terminal, and in docs/benchmarks.md between its marks."""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from leasecap._host.file_system import file_system

from . import targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .targets import Results

BEGIN, END = "<!-- results: written by scripts/bench -->", "<!-- end of results -->"
GATE_BEGIN, GATE_END = (
    "<!-- results of the gate: written by scripts/bench --gate -->",
    "<!-- end of the gate's results -->",
)
SERVER_BEGIN, SERVER_END = (
    "<!-- results on a server: written by scripts/bench --store redis -->",
    "<!-- end of results on a server -->",
)
OURS = ("leasecap_redis", "leasecap", "leasecap run --per-request", "leasecap run", "leasecap status")
PACKAGES = ("leasecap", "filelock", "watchdog", "posix_ipc", "portalocker", "fasteners", "h11", "redis")


def machine(base: str) -> list[str]:
    """Where, when and with what this was measured."""
    return [
        (
            f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, {platform.machine()}, "
            f"{file_system(base).type}, Python {platform.python_version()}"
        ),
        ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name))),
        f"load average when it began: {os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}",
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def table(figures: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A head, and a row for each limiter: each figure, and its ratio to leasecap's."""
    ours = next((figures[name] for name in OURS if name in figures), {})
    keys = list(dict.fromkeys(key for row in figures.values() for key in row))
    rows = [["", *(cell for key in keys for cell in ((key, "ratio") if ours else (key,)))]]
    for name, found in figures.items():
        row = [name]
        for key in keys:
            row.append(number(found.get(key, math.nan)))
            if ours:
                row.append(ratio(found.get(key, math.nan), ours.get(key, math.nan)))
        rows.append(row)
    return rows


def number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "never"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"


def ratio(value: float, ours: float) -> str:
    return f"{value / ours:.2f}x" if ours and math.isfinite(value) and math.isfinite(ours) else "-"


def verdict_table(results: Results) -> list[list[str]]:
    rows = [["", "what", "must be", "measured", ""]]
    for verdict in targets.verdicts(results):
        sign = ">=" if verdict.more_is_better else "<="
        stretch = "" if verdict.stretch is None else f" (stretch {verdict.stretch:g})"
        rows.append(
            [verdict.workload, verdict.what, f"{sign} {verdict.allowed:g}{stretch}", number(verdict.measured),
             verdict.word]
        )  # fmt: skip
    return rows


def in_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def in_markdown(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for place, row in enumerate(rows):
        yield "| " + " | ".join(row) + " |"
        if place == 0:
            yield "|---" * len(row) + "|"


def page(results: Results, titles: Mapping[str, str], head: Sequence[str], picture: str = "") -> str:
    """What stands between the marks.

    :param picture: its file; empty: there is none.
    """
    lines = [f"Measured with `scripts/bench {' '.join(sys.argv[1:])}`:".replace(" `:", "`:"), ""]
    lines += [f"- {line}" for line in head]
    if picture:
        lines += ["", f"![utilisation and hand-off per limiter]({picture})"]
    lines += ["", "### Targets", ""]
    lines += in_markdown(verdict_table(results))
    for name, figures in results.items():
        lines += ["", f"### {name}: {titles[name]}", "", *in_markdown(table(figures))]
    return "\n".join(lines)


def put_into(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put ``text`` between the marks of the page; the prose around them is written by hand."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    if not rest or not after:
        raise ValueError(f"{path} has lost the marks {begin!r} and {end!r}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
