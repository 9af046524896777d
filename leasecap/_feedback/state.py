"""``state.json``: all that feedback has taught about one pool, as data. `adaptive` says what is made of it.

All processes of a pool share one state, and it outlives them. Times are seconds of the boot clock as the initial time
namespace reads it: no step of the wall clock moves it, and it goes on in suspend. `rebased` carries them over a reboot.
A state that can't be read is an error: it might hold a reduction or a pause, so nobody may go on without it. A field
that this version doesn't know is ignored, and a missing one has its default.
"""

from __future__ import annotations

import json

from leasecap._named_tuple import NamedTuple, from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

VERSION = 1
MAX_BYTES = 16_384
"""A state is below 2 kB, unless its texts hold much that is not ASCII."""

_LONGEST_TEXT = 300
_HIGHEST = 1e15  # no number is higher, so that sums of times and products of limits stay finite

_SAME_CLOCK = 1.0
"""Seconds by which boot and wall clock may drift apart within one boot, where no boot has an id."""


class Clock(NamedTuple):
    """The time.

    :ivar epoch: the id of the boot. Two times are comparable only if it is the same; None is unknown and equals
        nothing.
    :ivar boot: seconds since boot, suspended time included; the same in all time namespaces.
    :ivar wall: seconds since 1970.
    """

    epoch: str | None
    boot: float
    wall: float


class Pause(NamedTuple):
    """Nobody is granted anything.

    :ivar until: when it ends; None: when a person resumes the pool.
    :ivar length: its seconds from the start; no step of the wall clock across a reboot makes it longer.
    :ivar why: for people.
    """

    since: float
    until: float | None
    length: float
    why: str


PHASES = ("quick", "probe", "hold")


class Cut(NamedTuple):
    """A limit below the configured one.

    :ivar limit: the limit that holds now.
    :ivar ceiling: the level from which it was cut; None once a probe has held at that.
    :ivar at: when it was cut.
    :ivar phase: "quick": it grows to just under the ceiling; "probe": it waits for the next probe; "hold": it waits
        whether the last probe holds.
    :ivar since: since when waiters have pressed against this limit without a gap.
    :ivar pressed: when they were last seen to press.
    :ivar probe_after: seconds of pressing before the next probe.
    """

    limit: int
    ceiling: int | None
    at: float
    why: str
    phase: str
    since: float
    pressed: float
    probe_after: float


class Ramp(NamedTuple):
    """After a pause the load comes back step by step.

    :ivar high: the highest load since the pause; a grant up to it is a hand-off, which is never spaced.
    :ivar last: when that load was reached; None: not yet.
    """

    high: int
    last: float | None


class Latency(NamedTuple):
    """Moving averages of the time to first byte, seconds; ``at``: of the last value."""

    short: float
    long: float
    samples: int
    at: float


class Usage(NamedTuple):
    """The last question to the provider.

    :ivar asked: when it was asked.
    :ivar answered: when it was answered; None while the question is out.
    :ivar in_flight: how many requests the provider counts; None: no information.
    :ivar error: why the last question that is over gave no information.
    :ivar spent: whether a grant was given on this answer.
    :ivar limit: the provider's own limit, as it last said it; None: it hasn't.
    :ivar held: how many entries held a slot when somebody last needed an answer; None: nobody has.
    :ivar released: how many of them have ended since, and were not followed by a question yet.
    """

    asked: float
    answered: float | None
    in_flight: int | None
    error: str | None
    spent: bool
    limit: int | None = None
    held: int | None = None
    released: int = 0


class State(NamedTuple):
    """All that feedback has taught, for one pool.

    :ivar epoch, boot, wall: the `Clock` by which the times were written.
    :ivar last_cut: reports about leases granted before it don't cut again.
    :ivar refusals: how many refusals came, less what later grants outweigh of them (`adaptive.PER_REFUSAL`).
    """

    epoch: str | None = None
    boot: float = 0.0
    wall: float = 0.0
    pause: Pause | None = None
    cut: Cut | None = None
    last_cut: float | None = None
    ramp: Ramp | None = None
    latency: Latency | None = None
    usage: Usage | None = None
    refusals: float = 0.0


NOTHING = State()


def rebased(state: State, clock: Clock) -> State:
    """``state`` with its times by ``clock``. If another boot wrote it, the wall clock carries them over.

    A pause never becomes longer than it was from the start, and nothing past moves into the future. Whoever may write
    has to write the outcome: while the file keeps the times of the other boot, they begin anew at each reading.
    """
    if state is NOTHING or (state.epoch == clock.epoch and clock.epoch is not None):
        return state
    shift = clock.boot - clock.wall - (state.boot - state.wall)
    if state.epoch is None and clock.epoch is None and abs(shift) < _SAME_CLOCK:
        return state

    def past(moment: float) -> float:
        return min(moment + shift, clock.boot)

    pause, cut, ramp, latency, usage = state.pause, state.cut, state.ramp, state.latency, state.usage
    if pause is not None:
        until = None if pause.until is None else min(pause.until + shift, clock.boot + pause.length)
        pause = pause._replace(since=past(pause.since), until=until)
    if cut is not None:
        cut = cut._replace(at=past(cut.at), since=past(cut.since), pressed=past(cut.pressed))
    if ramp is not None and ramp.last is not None:
        ramp = ramp._replace(last=past(ramp.last))
    if latency is not None:
        latency = latency._replace(at=past(latency.at))
    if usage is not None:
        usage = usage._replace(asked=past(usage.asked), answered=usage.answered and past(usage.answered))
    return state._replace(
        epoch=clock.epoch,
        boot=clock.boot,
        wall=clock.wall,
        pause=pause,
        cut=cut,
        last_cut=None if state.last_cut is None else past(state.last_cut),
        ramp=ramp,
        latency=latency,
        usage=usage,
    )


_PARTS: dict[str, type] = {"pause": Pause, "cut": Cut, "ramp": Ramp, "latency": Latency, "usage": Usage}


def encode_state(state: State) -> bytes:
    """The bytes of ``state.json``."""
    fields = state._asdict()
    parts = {name: None if fields[name] is None else fields[name]._asdict() for name in _PARTS}
    return json.dumps({"version": VERSION, **fields, **parts}, indent=1).encode("ascii")


def decode_state(data: bytes) -> State:
    """The state in ``data``.

    :raises ValueError: for anything that isn't one; it says why.
    """
    try:
        raw = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise ValueError("is not what leasecap writes (truncated, or changed by somebody)")
    version = raw.pop("version", None)
    if version != VERSION or type(version) is not int:
        raise ValueError(f"has format {version!r}, and this leasecap knows format {VERSION}")
    state = bounded(State, raw)
    if state.cut is not None and (state.cut.limit < 1 or state.cut.phase not in PHASES):
        raise ValueError(f"holds a reduction that can't be: limit {state.cut.limit}, phase {state.cut.phase!r}")
    return state


def bounded(kind: type[T], raw: object) -> T:
    """`from_json` that refuses numbers and texts so large that a sum, a product or the file could grow without
    bound."""
    return from_json(kind, raw, parts=_PARTS, in_bounds=_in_bounds)


def _in_bounds(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return not isinstance(value, (int, float)) or -_HIGHEST <= value <= _HIGHEST  # NaN is in no range
