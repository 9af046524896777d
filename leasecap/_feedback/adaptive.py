"""What the provider's answers do to a pool: pauses, a lower limit and its way back, spaced grants. Pure decisions.

A state, the rules and a time come in, a state goes out.

The limit is cut by a factor and grows back much as CUBIC does it for TCP (RFC 9438): quickly to just under the level
that failed, and then a single step beyond that now and then. A plain sawtooth would meet the provider's limit all the
time.
"""

from __future__ import annotations

import math

from leasecap._decisions.admission import OPEN, Admission
from leasecap._feedback.state import NOTHING, Cut, Latency, Pause, Ramp, State, Usage
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._feedback.rules import Rules

MAX_PROBE_INTERVAL = 600.0
"""Seconds between probes at most, however many have failed."""

QUICK_STEPS = 30
"""Quick growth takes one step per ``probe_interval / QUICK_STEPS``, which leaves time for a refusal to come."""

EPOCH = 5.0
"""Seconds after a cut in which a report that belongs to no lease doesn't cut again: its request may be older."""

FRESH_LATENCY = 60.0
"""Seconds for which a rise of the time to first byte counts, after the last report of such a time."""

PER_REFUSAL = 10
"""Grants that outweigh one refusal. So refusals for another reason than load (one in thirty, say) are forgotten, while
above a real limit most grants are refused."""

EVIDENCE = 2.5
"""After a first cut, the next one takes more refusals than these that no grants outweigh: so three in a row. The
providers in `tests/support/provider_model.py` show what this constant and the two below are for."""

EVIDENCE_OF_PROBE = 1.5
"""Likewise for a probe, a step beyond a level that failed: refusals are likely there, so fewer are waited for."""

EVIDENCE_KEPT = 2.0
"""The refusals that count on after a cut: if the next grant is refused as well, the cut wasn't low enough."""

FRESH_ANSWER = 1.0
"""Seconds for which an answer of the provider counts at least, from when it came: time enough for each waiter to
look."""

_SHORT, _LONG, _SAMPLES = 0.3, 0.03, 20  # weights of the two moving averages, and how many values make them one
_MOST_JITTER = 1.0


class Report(NamedTuple):
    """What somebody heard from the provider.

    :ivar kind: "concurrency", "quota" or "neutral".
    :ivar retry_after: seconds, 0 or more; None: the provider didn't say.
    :ivar granted: when the lease was granted that this is about; None: it belongs to none.
    :ivar why: for people.
    :ivar jitter: from 0 to 1.
    """

    kind: str
    why: str
    retry_after: float | None = None
    ttfb: float | None = None
    granted: float | None = None
    jitter: float = 0.0


def admission(state: State, rules: Rules, now: float, *, gated: bool, cooled_in: float = math.inf) -> Admission:
    """What ``state`` means for grants at ``now``.

    :param gated: the provider is asked how many requests it counts before a grant that could be too much.
    :param cooled_in: seconds until the next slot has cooled down.
    """
    if state is NOTHING and not gated and cooled_in == math.inf:
        return OPEN
    pause, cut, ramp = state.pause, state.cut, state.ramp
    changes_in = cooled_in
    closed = pause is not None and (pause.until is None or now < pause.until)
    if closed and pause is not None and pause.until is not None:
        changes_in = min(changes_in, pause.until - now)
    high, raises = None, 0
    if ramp is not None and rules.stagger > 0:
        high = ramp.high
        since = math.inf if ramp.last is None else now - ramp.last
        raises = int(not 0 <= since < rules.stagger)
        if not raises:
            changes_in = min(changes_in, rules.stagger - since)
    answers, counted, own_limit, asks_first = None, 0, None, False
    if gated:
        answers, counted = _answers(state.usage, rules, now)
        if rules.usage_limit_field:
            usage = state.usage
            own_limit = None if usage is None else usage.limit
            asks_first = own_limit is None and (usage is None or usage.answered is None)
    limit = cut.limit if cut is not None and rules.adaptive != "off" else None
    return Admission(closed, limit, high, raises, answers, counted, own_limit, asks_first, changes_in)


def _answers(usage: Usage | None, rules: Rules, now: float) -> tuple[int | None, int]:
    if usage is None:
        return 0, 0
    if usage.answered is None:
        # Who asked may have been killed since. Then the other rules decide until it is worth asking once more.
        waits = is_awaited(usage, rules, now) or not _asks_in(usage, rules, now)
        return (0 if waits else None), 0
    # Counted from when the answer came. From the question on, answers slower than the interval would all be stale.
    if not 0 <= now - usage.answered < max(rules.usage_interval, FRESH_ANSWER):
        return 0, 0
    if usage.in_flight is None:
        return None, 0  # no information: the other rules decide
    return int(not usage.spent), usage.in_flight


def is_awaited(usage: Usage, rules: Rules, now: float) -> bool:
    """Whether grants wait for the answer: for ``usage_timeout`` at most, and not if the last question gave no
    answer."""
    return usage.answered is None and usage.error is None and 0 <= now - usage.asked < rules.usage_timeout


def may_ask(state: State, rules: Rules, now: float) -> bool:
    """Whether the provider may be asked for its count: one question at a time, one at once for each slot that was
    released, and else one per ``usage_interval``."""
    return state.usage is None or not _asks_in(state.usage, rules, now)


def _asks_in(usage: Usage, rules: Rules, now: float) -> float:
    """Seconds until the provider may be asked."""
    if usage.released and usage.answered is not None and usage.in_flight is not None:
        return 0.0
    # Whoever asked may have been killed since.
    wait = rules.usage_interval if usage.answered is not None else max(rules.usage_interval, rules.usage_timeout + 1.0)
    ago = now - usage.asked
    return wait - ago if 0 <= ago < wait else 0.0


def answer_due(state: State, rules: Rules, now: float) -> float:
    """Seconds until somebody who lacks the provider's count can do something: ask for it, or go on without it."""
    usage = state.usage
    if usage is None:
        return 0.0
    return usage.asked + rules.usage_timeout - now if is_awaited(usage, rules, now) else _asks_in(usage, rules, now)


def asking(state: State, now: float) -> State:
    """Somebody asks the provider now."""
    error, old = None, state.usage
    if old is not None:
        # If the last question got no answer, that is kept: then the other rules decide while this one is out as well.
        error = "the last question was not answered" if old.answered is None else old.error
    usage = Usage(asked=now, answered=None, in_flight=None, error=error, spent=False)
    if old is not None:
        usage = usage._replace(limit=old.limit, held=old.held, released=max(old.released - 1, 0))
    return state._replace(usage=usage)


def answered(
    state: State, asked: float, now: float, in_flight: int | None, error: str | None, limit: int | None = None
) -> State:
    """The question asked at ``asked`` was answered; an answer to an older question changes nothing.

    :param limit: the provider's own limit. Where an answer doesn't say it, the one that it said before goes on to hold.
    """
    usage = state.usage
    if usage is None or usage.asked != asked:
        return state
    limit = usage.limit if limit is None else limit
    return state._replace(
        usage=usage._replace(answered=now, in_flight=in_flight, error=error, spent=False, limit=limit)
    )


def noted_held(state: State, before: int, after: int) -> State:
    """Somebody needs an answer: note how many hold a slot, and how many have ended since that was noted last.

    :param before: how many entries hold a slot; ``after``: how many do after the grants of this moment.
    """
    usage = state.usage
    if usage is None:
        return state
    ended = 0 if usage.held is None else max(usage.held - before, 0)
    return state._replace(usage=usage._replace(held=after, released=usage.released + ended))


def reported(state: State, rules: Rules, now: float, report: Report, level: int, load: int) -> State:
    """What ``report`` makes of ``state``.

    :param level: the limit in force; for an unlimited pool, what is in flight.
    :param load: what is in flight.
    """
    if report.ttfb is not None:
        state = state._replace(latency=_averaged(state.latency, report.ttfb, now))
    if report.kind == "quota":
        return paused(state, now, report.retry_after, report.why)
    if report.kind == "concurrency":
        if report.retry_after:
            bounded = min(report.retry_after, rules.max_pause)
            # The jitter only makes it later than was asked for, so that not all machines of an account come at once.
            jitter = report.jitter * min(bounded / 10, _MOST_JITTER)
            state = paused(state, now, min(bounded + jitter, rules.max_pause), report.why)
        return _refused(state, rules, now, report, level, load)
    if rules.latency_guard and report.ttfb is not None and is_slow(state.latency, now):
        return _cut(state, rules, now, report.why, level) if _is_news(state, report, level, load, now) else state
    return state


def paused(state: State, now: float, seconds: float | None, why: str) -> State:
    """Close the pool for ``seconds`` (None: until a person resumes it). A pause that holds is never shortened."""
    old = state.pause
    if old is not None and (old.until is None or (seconds is not None and old.until >= now + seconds)):
        return state
    until = None if seconds is None else now + seconds
    return state._replace(pause=Pause(now, until, seconds or 0.0, why), ramp=Ramp(0, None))


def resumed(state: State) -> State:
    """Open the pool again. What was learned about its limit stays."""
    return state._replace(pause=None)


def restored(state: State) -> State:
    """Forget the reduction, since a person has set the limit."""
    return state._replace(cut=None, refusals=0.0)


def _refused(state: State, rules: Rules, now: float, report: Report, level: int, load: int) -> State:
    if rules.adaptive == "off" or not _is_news(state, report, level, load, now):
        return state
    if state.last_cut is not None:
        refusals = min(state.refusals + 1, EVIDENCE + 1)
        probes = state.cut is not None and state.cut.phase == "hold"
        if refusals <= (EVIDENCE_OF_PROBE if probes else EVIDENCE):
            return state._replace(refusals=refusals)
    return _cut(state, rules, now, report.why, level)


def _is_news(state: State, report: Report, level: int, load: int, now: float) -> bool:
    """Whether ``report`` says anything about the limit that holds since the last cut."""
    if state.last_cut is None:
        return True
    if report.granted is not None:
        return report.granted > state.last_cut
    # If nobody knows which lease it is about, it may be about one that was in flight at the cut. It can even be older
    # than the cut: of two processes that report at once, the first one's report can be the one that is taken up last.
    return load <= level and now - state.last_cut >= EPOCH


def _cut(state: State, rules: Rules, now: float, why: str, level: int) -> State:
    if rules.adaptive == "off":
        return state
    old = state.cut
    limit = min(level, max(rules.min_limit, min(round(level * rules.backoff), level - 1)))
    if limit == level and old is None:
        return state  # there is no lower limit to cut to
    failed = old is not None and old.phase == "hold"
    probe_after = rules.probe_interval
    if old is not None and failed:
        probe_after = min(old.probe_after * 2, MAX_PROBE_INTERVAL)
    cut = Cut(
        limit=limit,
        ceiling=max(level, limit + 1),
        at=now,
        why=why,
        phase="quick",
        since=now,
        pressed=now,
        probe_after=max(probe_after, rules.probe_interval),
    )
    return state._replace(cut=_settled(cut), last_cut=now, refusals=EVIDENCE_KEPT)


def _settled(cut: Cut) -> Cut:
    """``cut``, in the next phase if it is just under its ceiling."""
    if cut.phase == "quick" and cut.ceiling is not None and cut.limit >= cut.ceiling - 1:
        return cut._replace(phase="probe")
    return cut


def pressed(state: State, rules: Rules, now: float, full: int) -> State:
    """Only the reduced limit keeps somebody waiting: let it grow, if that has been so for long enough.

    :param full: the limit without the reduction.
    """
    cut = state.cut
    if cut is None or rules.adaptive != "aimd" or is_slow(state.latency, now):
        return state
    step = rules.probe_interval / QUICK_STEPS
    if not 0 <= now - cut.pressed <= step + 1.0:
        # Looks come far more often. After a gap nobody knows whether the provider would have taken more meanwhile.
        return state._replace(cut=cut._replace(since=now, pressed=now))
    needed = {"quick": step, "probe": cut.probe_after, "hold": rules.probe_interval / 2}[cut.phase]
    if now - cut.since < needed:
        return state._replace(cut=cut._replace(pressed=now)) if now - cut.pressed >= step / 2 else state
    cut = cut._replace(since=now, pressed=now)
    if cut.phase == "hold":
        # The provider takes more than the level that failed, so the limit grows quickly until one fails again.
        cut = cut._replace(phase="quick", ceiling=None, probe_after=rules.probe_interval)
    cut = cut._replace(limit=cut.limit + 1)
    if cut.phase == "probe":
        cut = cut._replace(phase="hold")
    elif cut.limit >= full:
        return state._replace(cut=None)
    return state._replace(cut=_settled(cut))


def granted(state: State, now: float, high: int | None, spent: bool, number: int) -> State:
    """What ``number`` grants make of ``state``.

    :param high: the load they lead to, if that is the highest since a pause.
    :param spent: whether one of the grants was given on the provider's answer.
    """
    if number and state.refusals:
        state = state._replace(refusals=max(state.refusals - number / PER_REFUSAL, 0.0))
    if high is not None:
        state = state._replace(ramp=Ramp(high, now))
    if spent and state.usage is not None:
        state = state._replace(usage=state.usage._replace(spent=True))
    return state


def idled(state: State) -> State:
    """The pool was idle for so long that its next grants are spaced."""
    return state._replace(ramp=Ramp(0, None))


def _averaged(latency: Latency | None, ttfb: float, now: float) -> Latency:
    if latency is None:
        return Latency(ttfb, ttfb, 1, now)
    short = latency.short + _SHORT * (ttfb - latency.short)
    long = latency.long + _LONG * (ttfb - latency.long)
    at = max(latency.at, now)  # a report that is taken up late is older than others that were taken up before
    return Latency(short, long, min(latency.samples + 1, _SAMPLES), at)


def is_slow(latency: Latency | None, now: float) -> bool:
    """Whether the time to first byte is rising: the short average over twice the long one."""
    if latency is None or latency.samples < _SAMPLES or not 0 <= now - latency.at < FRESH_LATENCY:
        return False
    return latency.short > 2 * latency.long
