"""Reporting what a provider answered, and pausing, resuming and restoring a pool."""

from __future__ import annotations

import math
import time
from functools import partial

from leasecap import _ancestry
from leasecap._durations import LONGEST
from leasecap._errors import StoreError, Unreachable
from leasecap._faults import faults
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._host.process import ancestors_of
from leasecap._liveness.record import called
from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leasecap._feedback.state import State
    from leasecap._store.store import Store

KINDS = ("concurrency", "quota", "neutral")

_KIND_OF = {429: "concurrency", 503: "concurrency", 529: "concurrency", 402: "quota"}
"""RFC 9110 and 6585; 529 is what Anthropic answers when it is overloaded. Every other status is neutral."""

_LONGEST_RETRY_AFTER = 100  # characters; an HTTP date has 29
_warned_unreadable: set[str] = set()  # paths of pools

_PATIENCE, _PAUSE = 5.0, 0.01  # seconds to try for the pool's lock, and between tries; it is held for moments only


def report(
    store: Store,
    who: str,
    *,
    status: int | None = None,
    retry_after: float | str | None = None,
    kind: str | None = None,
    ttfb: float | None = None,
    granted: float | None = None,
) -> None:
    """Note what the provider answered; `leasecap.report` documents the arguments.

    :param who: who reports it, for people.
    :param granted: when the lease that it is about was granted (boot clock); None: that isn't known.
    :raises TypeError, ValueError: for arguments that can't be meant; nothing is noted.
    :raises StoreError: when it can't be noted, or the state of the pool can't be read.
    """
    _post(store, _checked(store, status, retry_after, kind, ttfb), lambda: (who, granted))


def report_from_here(
    store: Store,
    *,
    status: int | None = None,
    retry_after: float | str | None = None,
    kind: str | None = None,
    ttfb: float | None = None,
) -> None:
    """`report`, about the lease that this code or process runs under, if there is one.

    :raises TypeError, ValueError, StoreError: as `report` does.
    """
    found = _checked(store, status, retry_after, kind, ttfb)
    own = _ancestry.about(*store.place)
    if own is not None:
        said = own()  # now, since the lease may end before this is noted
        _post(store, found, lambda: said)
    else:
        _post(store, found, partial(_lease_of, store, _ancestry.tokens(*store.place)))


def _post(store: Store, found: Report | None, about: Callable[[], tuple[str, float | None]]) -> None:
    """Note it.

    :param found: without what ``about`` says, which may have to ask the store: an event loop must not wait for that.
    """
    if found is None:
        return

    def whole() -> Report:
        who, granted = about()
        return found._replace(why=f"{found.why} reported by {who}", granted=granted)

    with faults(store.path):
        store.post(whole)


def _lease_of(store: Store, tokens: Sequence[str]) -> tuple[str, float | None]:
    """Who holds the lease that code with this chain runs under, and since when (boot clock)."""
    me = store.me()
    # An agent's hook has no chain if `acquire --for-pid` took the slot, but the agent is one of its parents.
    parents = frozenset(ancestors_of(me.pid))
    found: dict[int, tuple[str, float | None]] = {}
    try:
        leases = store.view().leases
    except Unreachable:
        leases = ()  # to note it is tried all the same
    for lease in leases:
        record, token = lease.record, lease.entry.token
        if record is None or (record.boot, record.pid_ns, record.time_ns) != (me.boot, me.pid_ns, me.time_ns):
            continue
        if token in tokens or record.pid in parents:
            rank = tokens.index(token) if token in tokens else len(tokens)
            found[rank] = called(record), lease.granted
    return found[min(found)] if found else (f"pid {me.pid}", None)


def _checked(
    store: Store,
    status: int | None,
    retry_after: float | str | None,
    kind: str | None,
    ttfb: float | None,
) -> Report | None:
    """What is reported, without who reports it; None: nothing that matters."""
    check_report(status, retry_after, kind, ttfb)
    seconds = None if retry_after is None else parse_retry_after(retry_after, store.wall_clock())
    if retry_after is not None and seconds is None:
        _warn_unreadable(store, retry_after)
    if kind is None:
        # An empty header counts as none. Any other one came with a refusal, whether it can be read or not.
        refused = status is None and retry_after is not None and str(retry_after).strip() != ""
        kind = _KIND_OF.get(status or 0, "concurrency" if refused else "neutral")
    if kind == "neutral" and ttfb is None:
        return None
    what = {"concurrency": "a refusal", "quota": "a used-up quota", "neutral": "a slow first byte"}[kind]
    if status is not None and kind != "neutral":
        what = f"a {status}" + (" (quota)" if kind == "quota" else "")
    ttfb = None if ttfb is None else min(_seconds("ttfb", ttfb), LONGEST)
    return Report(kind, what, retry_after=seconds, ttfb=ttfb, jitter=store.chance())


def check_report(status: int | None, retry_after: float | str | None, kind: str | None, ttfb: float | None) -> None:
    """Refuse arguments that can't be meant. What a provider may have sent is never refused.

    :raises TypeError, ValueError: for the caller's own mistakes.
    """
    if status is None and retry_after is None and kind is None and ttfb is None:
        raise ValueError("nothing is reported: give a status, a kind, retry_after or ttfb")
    if status is not None:
        _check_status(status)
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if ttfb is not None and not _seconds("ttfb", ttfb) >= 0:
        raise ValueError(f"ttfb must be 0 or more seconds, not {ttfb!r}")


def _check_status(status: int) -> None:
    """Refuse what is no HTTP status: three digits, or 0, by which curl means no answer at all."""
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be a whole number, not {status!r}")
    if status and not 100 <= status <= 999:
        raise ValueError(f"status must be an HTTP status, such as 429, not {status!r}")


def parse_retry_after(value: float | str, wall: float) -> float | None:
    """The seconds that a Retry-After means: a number, or an HTTP date (RFC 9110, 10.2.3). None: it can't be read.

    Never raises for what a provider may send.

    :param wall: now, in seconds since 1970; a date that has passed means 0.
    :raises TypeError: for what is neither a number nor a text.
    """
    if not isinstance(value, str):
        seconds = _seconds("retry_after", value)
        return min(seconds, LONGEST) if seconds >= 0 else None
    text = value.strip()
    if len(text) > _LONGEST_RETRY_AFTER:
        return None
    if text.replace(".", "", 1).isdigit() and text.isascii():
        return min(float(text), LONGEST)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # "-0000" means UTC (RFC 5322)
            from datetime import UTC

            moment = moment.replace(tzinfo=UTC)
        return min(max(moment.timestamp() - wall, 0.0), LONGEST)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return None


def _warn_unreadable(store: Store, value: float | str) -> None:
    """Log a warning, once for each pool: a provider that sends such a header sends it with each refusal."""
    if store.path not in _warned_unreadable:
        _warned_unreadable.add(store.path)
        from leasecap._redact import printable

        log_warning(
            f"pool {store.name!r}: Retry-After {printable(str(value), 60)!r} is neither seconds nor an HTTP "
            "date: it is ignored, what was reported with it counts"
        )


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf if value > 0 else -math.inf


def pause(store: Store, seconds: float | None, why: str) -> State:
    """Close the pool for ``seconds``, or with None until it is resumed; returns the state. Holders go on.

    :raises StoreError: when that can't be noted.
    """
    return _change(store, lambda state, now: adaptive.paused(state, now, seconds, why))


def resume(store: Store) -> State:
    """Open the pool again; a state that can't be read is forgotten. Returns what the state was before.

    :raises StoreError: when that can't be noted.
    """
    before: list[State] = []

    def change(state: State, now: float) -> State:
        before.append(state)
        return adaptive.resumed(state)

    _change(store, change, anew=True)
    return before[-1]


def restore(store: Store) -> None:
    """Forget a reduced limit.

    :raises StoreError: when that can't be noted.
    """
    _change(store, lambda state, now: adaptive.restored(state))


def _change(store: Store, change: Callable[[State, float], State], *, anew: bool = False) -> State:
    with faults(store.path):
        return _changed(store, change, anew)


def _changed(store: Store, change: Callable[[State, float], State], anew: bool) -> State:
    after: list[State] = []

    def noted(state: State, now: float) -> State:
        after.append(change(state, now))
        return after[-1]

    until = time.monotonic() + _PATIENCE
    while not store.update_feedback(noted, anew=anew):
        if time.monotonic() > until:
            raise StoreError(
                f"the pool's own lock is held by {store.busy_with()}; it takes milliseconds",
                path=store.path,
                remedy="that process is probably stopped: continue it (kill -CONT PID) or end it",
            )
        time.sleep(_PAUSE)
    store.wake_all()  # waiters see why they wait, or that they need not
    return after[-1]
