"""One picture of the contended workloads: how much of the cap was used, and how long a free slot stood empty."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .targets import Results

WORKLOADS = "BCD"
COLOURS = {"leasecap": "#0b7285", "posix_ipc": "#868e96", "portalocker": "#e8890c", "mkdir_poll": "#c2255c"}
WIDTH, BAR, GAP, LEFT, PANEL = 760, 15, 26, 100, 300
SHORTEST, LONGEST = 0.1, 1000.0  # ms, of the logarithmic axis


def draw(results: Results) -> str:
    """The SVG, or "" when none of the workloads was measured."""
    measured = [name for name in WORKLOADS if name in results]
    if not measured:
        return ""
    lines = list(_panels(results, measured))
    height = 70 + sum(len(results[name]) * BAR + GAP for name in measured)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>', *lines, "</svg>", ""])


def _panels(results: Results, measured: Sequence[str]) -> Iterator[str]:
    right = LEFT + PANEL + 40
    yield _text(LEFT, 20, "utilisation of the cap (more is better)", weight="bold")
    yield _text(right, 20, "hand-off, ms: p50 (bar) and p99 (line), log scale (less is better)", weight="bold")
    y = 40
    for workload in measured:
        yield _text(8, y + 4, f"workload {workload}", weight="bold")
        y += 10
        for name, figures in results[workload].items():
            colour = COLOURS.get(name, "#495057")
            yield _text(LEFT - 6, y + BAR - 5, name, anchor="end")
            share = figures["utilisation"]
            yield _bar(LEFT, y, PANEL * 0.85 * min(share, 1), colour)
            yield _text(LEFT + PANEL * 0.85 * min(share, 1) + 4, y + BAR - 5, f"{share:.3f}")
            p50, p99 = figures["hand-off p50 ms"], figures["hand-off p99 ms"]
            yield _bar(right, y, _at(p50), colour)
            yield (
                f'<path d="M{right + _at(p50):.1f} {y + BAR / 2 - 1.5}H{right + _at(p99):.1f}m0 -4v8" '
                f'stroke="{colour}" stroke-width="1.5" fill="none"/>'
            )
            yield _text(right + _at(p99) + 5, y + BAR - 5, f"{p50:.2g} / {p99:.2g}")
            y += BAR
        y += GAP - 10
    for ms in (0.1, 1, 10, 100, 1000):
        x = right + _at(ms)
        yield f'<path d="M{x:.1f} 34V{y}" stroke="#adb5bd" stroke-width="0.5" stroke-dasharray="2 3"/>'
        yield _text(x, y + 12, f"{ms:g}", anchor="middle")


def _at(ms: float) -> float:
    """Where a time stands on the axis of the right panel."""
    share = math.log10(max(min(ms, LONGEST), SHORTEST) / SHORTEST) / math.log10(LONGEST / SHORTEST)
    return 1 + 0.75 * PANEL * share


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{max(width, 1):.1f}" height="{BAR - 3}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#212529">{text}</text>'
