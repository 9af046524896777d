"""`leasecap report`: what the provider answered, for shell hooks and scripts."""

from __future__ import annotations

import click

from leasecap._durations import format_duration
from leasecap._redact import printable
from leasecap.cli._pools import complete_pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.model import PoolStatus


@click.command("report")
@click.argument("pool", shell_complete=complete_pool)
@click.option("--status", metavar="CODE", type=click.IntRange(100, 599), help="The HTTP status of the answer.")
@click.option("--retry-after", metavar="S|DATE", help="As the header has it: seconds, or an HTTP date.")
@click.option(
    "--kind",
    type=click.Choice(["concurrency", "quota", "neutral"]),
    help="What it means, unless the status says so: 429, 503, 529 concurrency, 402 quota.",
)
@click.option("--ttfb", metavar="SECONDS", type=click.FloatRange(0), help="Seconds to the first byte of the answer.")
def command(pool: str, status: int | None, retry_after: str | None, kind: str | None, ttfb: float | None) -> None:
    """Tell POOL what its provider answered, so that all who share it learn from it.

    A refusal (429, 503, 529) cuts the limit, and with --retry-after closes the pool until then. A used-up quota closes
    it until --retry-after, or until `leasecap resume POOL`. Under `leasecap run` it is about that lease: a refusal of
    work that began before the last cut doesn't cut again.
    """
    from leasecap._api import report
    from leasecap._status.read import status as look

    before = look(pool).pools[0]
    try:
        report(pool, status, retry_after=retry_after, kind=kind, ttfb=ttfb)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"{printable(before.pool, 200)}: {_effect(before, look(pool).pools[0])}")


def _effect(before: PoolStatus, after: PoolStatus) -> str:
    """What the report has changed."""
    words = []
    if after.limit != before.limit:
        words.append(f"limit {before.limit} -> {after.limit}")
    feedback = after.feedback
    if feedback is not None and feedback.paused:
        left = "until it is resumed" if feedback.pause_left is None else f"for {format_duration(feedback.pause_left)}"
        words.append(f"gives out no slot {left}")
    return ", ".join(words) or f"noted, the limit stays {'unset' if after.limit is None else after.limit}"
