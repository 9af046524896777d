"""The picture of a root: frozen data, what `leasecap.status` returns and ``status --json`` prints."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.feedback import PoolFeedback

_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The HTTP request that a slot is for: one through a gate, or of `leasecap.httpx2` or `leasecap.httpx`.

    :ivar agent: what sends it: the command, the script, or what it calls itself at a `leasecap gate`. None of these
        three need be known.
    :ivar provider: where it goes: an upstream of the gate, or the name of its endpoint's pool.
    :ivar model: what it asks for.
    :ivar phase: "queued"; "sent" while no byte of its answer has come; "streaming" from the first byte on. None if this
        boot's clock can't say.
    :ivar first_byte_after: seconds from the grant to the first byte; None before that.
    """

    agent: str | None
    provider: str | None
    model: str | None
    phase: str | None
    first_byte_after: float | None


@dataclass(frozen=True, slots=True)
class Holder:
    """A slot that is held.

    :ivar state: "held", or "granted" while the waiter has not yet acknowledged.
    :ivar host: where the process runs; None for this machine.
    :ivar child: the pid of the command that `leasecap run` started.
    :ivar held_for: seconds for which it has been held; None if this boot's clock can't say.
    :ivar heartbeat_age: seconds since the last heartbeat; None likewise.
    :ivar alive: False when the holder is provably gone; it is reaped as soon as somebody wants the slot.
    :ivar evidence: what ``alive`` rests on.
    :ivar stopped: whether the process, or its command, is seen to be stopped (Ctrl-Z, SIGSTOP). It holds its slot all
        the same.
    :ivar borrows_from: the id of the lease whose slot it may use.
    :ivar limit: the limit it declared.
    :ivar max_hold: seconds for which it may be held; None: for ever.
    :ivar over_max_hold: seconds for which it has been held beyond that; None: its time isn't over, or can't be told.
    :ivar request: what the slot is for, if it is for a single request.
    """

    id: str
    state: str
    pid: int | None
    child: int | None
    host: str | None
    label: str | None
    command: str | None
    cwd: str | None
    granted_at: str | None
    held_for: float | None
    heartbeat_age: float | None
    alive: bool
    evidence: str
    stopped: bool
    borrows_from: str | None
    limit: int | None
    max_hold: float | None
    over_max_hold: float | None
    request: HttpRequest | None = None


@dataclass(frozen=True, slots=True)
class Waiter:
    """A ticket in the queue.

    :ivar state: "waiting", or why it is passed over. "stopped": its process is. "deaf": its process did not answer when
        it was asked, and has not looked since. "parked": it did not take up a grant, and its waiter has not looked
        since.
    :ivar position: 1 for the head; 0 while parked.
    :ivar request: what the slot is for, if it is for a single request.
    """

    id: str
    state: str
    pid: int | None
    host: str | None
    label: str | None
    command: str | None
    cwd: str | None
    position: int
    priority: int
    asked_at: str | None
    waited: float | None
    alive: bool
    evidence: str
    limit: int | None
    request: HttpRequest | None = None


@dataclass(frozen=True, slots=True)
class Percentiles:
    """How long something took, of many requests; seconds.

    :ivar n: how many there were.
    :ivar over_120s: how many took longer than that.
    :ivar p50: the value that half of them didn't exceed, to 2 %; p90 and p99 likewise. None where there were none.
    :ivar max: the longest.
    """

    n: int
    over_120s: int
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True, slots=True)
class ModelLatency:
    """How long requests for one model took that ended in one hour.

    :ivar hour: its beginning, RFC 3339, UTC.
    :ivar model: "" where it isn't known; "(others)" for those beyond the thirtieth.
    :ivar streamed: whether answers were to come piece by piece.
    :ivar first_byte: until the answer began, or until the time for that was over.
    :ivar whole_answer: until it had ended; those that broke off are left out.
    """

    hour: str
    model: str
    streamed: bool
    first_byte: Percentiles
    whole_answer: Percentiles


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool.

    :ivar limit: the effective limit; "unlimited" where a person wrote so, None where nothing gives one.
    :ivar limit_source: where the limit comes from.
    :ivar in_flight: slots in use; a borrower and its lender count once. Those of the dead count until they are reaped.
    :ivar stable: False if the pool changed so fast that no consistent view could be had.
    :ivar lock: "os" or "directory"; "server" for a pool that a server keeps; None for one that nobody used yet or
        that can't be read.
    :ivar error: why the pool can't be used, or None.
    :ivar feedback: what the provider's answers have made of it; None where that can't be read, or nobody used it yet.
    :ivar latency_warnings: time-outs that the answers of the last two hours came near to, for people.
    :ivar latency: how long requests took in the last 48 hours, the oldest first; None unless it was asked for.
    :ivar latency_error: what of that can't be read, or None.
    :ivar dead_slots: slots in use that come free once the dead are reaped. A borrower may work on in that of a dead
        lender.
    """

    pool: str
    path: str
    limit: int | str | None
    limit_source: str
    in_flight: int
    waiting: int
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    stable: bool
    lock: str | None
    error: str | None
    feedback: PoolFeedback | None
    latency_warnings: tuple[str, ...] = ()
    latency: tuple[ModelLatency, ...] | None = None
    latency_error: str | None = None
    dead_slots: int = 0


@dataclass(frozen=True, slots=True)
class SilentGate:
    """A `leasecap run --per-request` without any request that took a slot, a minute after its start.

    :ivar pid: of leasecap, which has started the command.
    """

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class StandingGate:
    """A `leasecap gate` that runs.

    :ivar address: HOST:PORT.
    """

    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class Status:
    """All that is under one root, at one time.

    :ivar time: RFC 3339, UTC.
    :ivar config_error: why ``config.toml`` can't be used, or None.
    :ivar error: why the pools can't be listed, or None.
    :ivar silent_gates: commands that may go past their gate.
    :ivar gates: those that aren't a command's own.
    """

    schema_version: int
    time: str
    root: str
    pools: tuple[PoolStatus, ...]
    config_error: str | None
    error: str | None = None
    silent_gates: tuple[SilentGate, ...] = ()
    gates: tuple[StandingGate, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """What `leasecap status --json` prints, which every reader of JSON takes.

        A path, a label or a command may have bytes in it that are no text. Python keeps these as lone surrogates, on
        which many readers of JSON fail. So they are U+FFFD here.
        """
        found = _as_text(asdict(self))
        assert isinstance(found, dict)
        return found


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else _LONE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {key: _as_text(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(each) for each in value]
    return value
