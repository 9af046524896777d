"""What feedback keeps back in a pool, and why, in words for people."""

from __future__ import annotations

from leasecap._decisions.limits import UNLIMITED
from leasecap._durations import format_duration
from leasecap._feedback.adaptive import is_awaited, is_slow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from leasecap._feedback.rules import Rules
    from leasecap._feedback.state import Cut, Pause, State, Usage

_RECENT = 60.0  # seconds for which a callable's answer is shown: only its process knows whether it goes on asking


def explain(
    state: State, rules: Rules, now: float, pool: str, full: int | None, cooling: Collection[float] = ()
) -> tuple[str, ...]:
    """A line for each thing that keeps slots back.

    :param full: the limit without a reduction.
    :param cooling: for each slot that cools down, the seconds that are left.
    """
    lines: list[str] = []
    pause, cut = state.pause, state.cut
    if pause is not None and (pause.until is None or now < pause.until):
        lines.append(_pause(pause, now, pool))
    if cut is not None and full is not None and cut.limit < full and rules.adaptive != "off":
        lines.append(_cut(cut, rules, now, pool, full))
    ramp = state.ramp
    if ramp is not None and ramp.last is not None and 0 <= now - ramp.last < rules.stagger:
        lines.append(f"grants that raise the load are {rules.stagger:g} s apart")
    latency = state.latency
    if cut is not None and latency is not None and is_slow(latency, now):
        lines.append(
            f"the time to first byte is rising ({latency.short:.1f} s, {latency.long:.1f} s on average): no growth"
        )
    if cooling:
        lines.append(f"{len(cooling)} cooling, the last for {format_duration(max(cooling))} more")
    if state.usage is not None and (rules.ask or now - state.usage.asked < _RECENT):
        lines.append(_usage(state.usage, rules, now))
    return tuple(lines)


def resume_command(pool: str) -> str:
    """The command that opens the pool again, as it is typed."""
    return f"`leasecap resume {_quoted(pool)}`"


def _quoted(pool: str) -> str:
    import shlex

    return shlex.quote(pool)


def _pause(pause: Pause, now: float, pool: str) -> str:
    if pause.until is None:
        return f"closed for {format_duration(now - pause.since)}, until {resume_command(pool)}: {pause.why}"
    return f"paused for {format_duration(pause.until - now)} more: {pause.why}"


def _cut(cut: Cut, rules: Rules, now: float, pool: str, full: int) -> str:
    of = "" if full == UNLIMITED else f" of {full}"
    line = f"{cut.limit}{of}: cut {format_duration(now - cut.at)} ago after {cut.why}"
    if rules.adaptive == "reduce":
        line += f"; stays until `leasecap limit {_quoted(pool)} N`"
    return line


def _usage(usage: Usage, rules: Rules, now: float) -> str:
    if usage.answered is None:
        since = format_duration(now - usage.asked)
        line = f"the provider is being asked for its count since {since}"
        return line if is_awaited(usage, rules, now) else f"{line}; until it answers the other rules decide"
    ago = format_duration(now - usage.answered)
    if usage.in_flight is None:
        return f"no usage information {ago} ago: {usage.error}"
    line = f"the provider counted {usage.in_flight} in flight {ago} ago"
    return f"{line}, and allows {usage.limit}" if rules.usage_limit_field and usage.limit is not None else line
