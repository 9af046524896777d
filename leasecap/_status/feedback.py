"""What `leasecap status` shows of the provider's answers."""

from __future__ import annotations

from dataclasses import dataclass

from leasecap._decisions.limits import UNLIMITED, full_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._store.view import FeedbackView


@dataclass(frozen=True, slots=True)
class PoolFeedback:
    """What the provider's answers have made of a pool.

    :ivar full_limit: the limit without a reduction; "unlimited" where a person wrote so.
    :ivar reduced_limit: the limit to which it was reduced, or None.
    :ivar reduced_ago: seconds since the last cut.
    :ivar reduced_by: what led to the last cut.
    :ivar paused: whether nobody is granted anything.
    :ivar pause_left: seconds until it ends; None when it isn't paused, or ends when a person resumes the pool.
    :ivar paused_by: what led to the pause.
    :ivar cooling: slots that are still counted though their lease has ended.
    :ivar usage: how many requests the provider counted in flight when it was last asked; None: no information.
    :ivar usage_limit: how many it said last that it allows; None: it hasn't, or isn't asked for it.
    :ivar usage_age: seconds since that answer.
    :ivar usage_error: why there is no information.
    :ivar lines: all of it that holds now, for people.
    """

    full_limit: int | str | None
    reduced_limit: int | None
    reduced_ago: float | None
    reduced_by: str | None
    paused: bool
    pause_left: float | None
    paused_by: str | None
    cooling: int
    usage: int | None
    usage_limit: int | None
    usage_age: float | None
    usage_error: str | None
    lines: tuple[str, ...]


def described(pool: str, snapshot: Snapshot, view: FeedbackView | None) -> PoolFeedback:
    """What feedback has made of the pool of that name, for people."""
    full = full_limit(snapshot)
    if view is None:
        return PoolFeedback(word(full), None, None, None, False, None, None, 0, None, None, None, None, ())
    from leasecap._feedback.messages import explain  # imported only where there is anything to say

    now, state = view.now, view.state
    paused = snapshot.admission.closed
    pause = state.pause if paused else None
    cut = state.cut if snapshot.admission.limit is not None else None
    usage = state.usage
    return PoolFeedback(
        full_limit=word(full),
        reduced_limit=cut.limit if cut else None,
        reduced_ago=now - cut.at if cut else None,
        reduced_by=cut.why if cut else None,
        paused=paused,
        pause_left=None if pause is None or pause.until is None else pause.until - now,
        paused_by=pause.why if pause else None,
        cooling=len(view.cooling),
        usage=usage.in_flight if usage else None,
        usage_limit=snapshot.admission.own_limit,
        usage_age=now - usage.answered if usage and usage.answered is not None else None,
        usage_error=usage.error if usage else None,
        lines=explain(state, view.rules, now, pool, full, view.cooling),
    )


def word(limit: int | None) -> int | str | None:
    """A limit as people read it."""
    return "unlimited" if limit == UNLIMITED else limit
