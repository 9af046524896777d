"""What becomes of a provider's refusal: whether the gate sends the request again, when, and what the pool is told.

Pure decisions: the time, the tries so far and the jitter come in.
"""

from __future__ import annotations

import math

from leasecap._control import parse_retry_after
from leasecap._named_tuple import NamedTuple
from leasecap._provider.errors import Fault, fault_in
from leasecap._provider.reading import header, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._provider.reading import Headers

REFUSALS = frozenset({402, 429, 503, 529})

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0  # seconds between tries where the provider names none
_UNIFIED = b"anthropic-ratelimit-unified-"  # the limits of Claude's plans: five hours, a week


class Refusal(NamedTuple):
    """The provider doesn't serve a request now.

    :ivar retry_after: seconds; None: it doesn't say.
    :ivar quota: something is used up: trying again soon is no use.
    """

    status: int
    retry_after: float | None = None
    quota: bool = False


class PoolReport(NamedTuple):
    """The arguments of `Lease.report`."""

    status: int | None = None
    retry_after: float | None = None
    kind: str | None = None
    ttfb: float | None = None


def refusal(status: int, headers: Headers, body_start: bytes, now: float) -> Refusal | None:
    """The refusal that an answer is, or None.

    :param body_start: the body as it came; an error in it is read only if it is whole.
    :param now: the wall clock, seconds since 1970.
    """
    if status not in REFUSALS:
        return None
    said = fault_in(parse(header(headers, b"content-encoding"), body_start))
    reset = _unified_reset(headers, now) if status == 429 else None
    quota = status == 402 or reset is not None or (said is not None and said.quota)
    seconds = _retry_after(headers, now)
    if seconds is None and reset is not None and reset < math.inf:
        seconds = reset
    if seconds is None and said is not None:
        seconds = said.retry_after
    return Refusal(status, seconds, quota)


def refusal_of(fault: Fault) -> Refusal | None:
    """The refusal that an error inside a 200 answer is. None: it is the request that is wrong."""
    if fault.status in REFUSALS or fault.status >= 500 or fault.quota:
        return Refusal(fault.status, fault.retry_after, fault.quota or fault.status == 402)
    return None


def decide(
    refused: Refusal, *, elapsed: float, absorb: float, attempt: int, replayable: bool, jitter: float
) -> float | None:
    """Seconds until the request may be sent again; None: the client gets the refusal as it came.

    :param elapsed: seconds since the request came, in the queue or not.
    :param absorb: how many of them refusals may take.
    :param attempt: how often it has been sent by now, from 1 on.
    :param replayable: its body is still there, and nothing of an answer went to the client.
    :param jitter: from 0 to 1, so that those who were refused together don't come again together.
    """
    if refused.quota or not replayable:
        return None
    pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempt - 1, 10)) * (1 - jitter / 4)
    after = refused.retry_after
    # A provider that says "at once" each time would be asked without a break.
    if after is None or (after < pause and attempt > 1):
        after = pause
    return after if elapsed + after <= absorb else None


def to_report(
    status: int | None, refused: Refusal | None = None, *, ttfb: float | None = None, late: bool = False
) -> PoolReport | None:
    """What the pool is told about a request that was sent; None: nothing.

    :param status: of the answer; None: there was none.
    :param refused: what the answer is, or an error that came in it.
    :param ttfb: seconds to the first byte. That of an error says nothing about load.
    :param late: the first byte did not come in time.
    """
    if refused is not None:
        return PoolReport(refused.status, refused.retry_after, "quota" if refused.quota else "concurrency")
    if late:
        return PoolReport(kind="concurrency")
    if status is not None and status < 400 and ttfb is not None:
        return PoolReport(status, ttfb=ttfb)
    return None


def clamp_retry_after(seconds: float) -> int:
    """A Retry-After for the gate's own refusals: some clients give up at a minute, and 0 would bring them at once."""
    return math.ceil(min(seconds, 59.0)) if seconds > 1 else 1


def _retry_after(headers: Headers, now: float) -> float | None:
    """OpenAI's exact header goes before the standard one, as in its own clients."""
    milliseconds = parse_retry_after(header(headers, b"retry-after-ms").decode("latin-1"), now)
    if milliseconds is not None:
        return milliseconds / 1000
    return parse_retry_after(header(headers, b"retry-after").decode("latin-1"), now)


def _unified_reset(headers: Headers, now: float) -> float | None:
    """Seconds until the used-up limit of a plan is reset, infinity if it isn't said; None: no limit is used up.

    Where the provider doesn't say which state the limits are in, a reset means that one is used up.
    """
    state = header(headers, _UNIFIED + b"status").strip().lower()
    reset = header(headers, _UNIFIED + b"reset").strip()
    if state not in (b"", b"rejected") or not (state or reset):
        return None
    # Seconds since 1970; isdigit on bytes knows ASCII alone.
    return max(0.0, float(reset) - now) if reset.isdigit() else math.inf
