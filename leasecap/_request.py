"""What a caller asks for, checked."""

from __future__ import annotations

import math
import os

from leasecap._config.schema import parse_number
from leasecap._decisions.entry import PRIORITY_LIMIT
from leasecap._durations import parse_duration
from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from leasecap._config.config import PoolConfig
    from leasecap._liveness.record import Child, Purpose
    from leasecap._store.ticket import Place
    from leasecap._wait.progress import Waiting

WAIT_ENVIRONMENT = "LEASECAP_WAIT"
LABEL_MAX = 200
_EARLIEST = 1e9  # seconds since 1970: what is less is a duration, or another clock's


class Unset:
    """The type of `UNSET`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset()
"""Not given: the environment decides, then the configuration, then the default."""


class Options(NamedTuple):
    """The arguments of `leasecap.acquire`, which documents them."""

    timeout: float | Unset | None = UNSET
    limit: int | Unset | None = UNSET
    priority: int | Unset = UNSET
    label: str | None = None
    borrow: bool = True
    on_wait: Callable[[Waiting], object] | None = None
    on_lost: Callable[[Any], object] | None = None
    max_hold: float | Unset | None = UNSET
    kill_after: float | Unset = UNSET
    agent: Child | None = None  # of `leasecap acquire` alone
    place: Place | None = None  # of gates and transports alone, as the next one
    purpose: Purpose | None = None
    task_since: float | Callable[[], float | None] | None = None


class Request(NamedTuple):
    """A checked request; every value decided.

    :ivar timeout: seconds, or None for ever; 0 tries once.
    :ivar limit: the declared limit, or None.
    :ivar argv: the command to show in `status` in place of this process's own.
    :ivar max_hold: seconds for which the slot may be held, or None for ever; ``kill_after``: see `max_hold`.
    :ivar agent: the process that the slot is for, if it isn't this one; it has one lease, however often it asks.
    :ivar place: where it stands in the queue, if it asks again.
    :ivar purpose: the HTTP request that the slot is for, if it is for a single one.
    :ivar task_since: when its task began (seconds since 1970), where the pool may go by that.
    """

    timeout: float | None
    limit: int | None
    priority: int
    label: str | None
    borrow: bool
    on_wait: Callable[[Waiting], object] | None
    argv: Sequence[str] | None
    max_hold: float | None = None
    kill_after: float = 0.0
    agent: Child | None = None
    place: Place | None = None
    purpose: Purpose | None = None
    task_since: float | None = None


def checked(options: Options, pool: PoolConfig, argv: Sequence[str] | None = None) -> Request:
    """Return the request with its unset values decided.

    :raises TypeError, ValueError: for arguments that can't be meant.
    :raises ConfigError: for an environment variable that can't be meant.
    """
    timeout, limit, priority, label = options.timeout, options.limit, options.priority, options.label
    if isinstance(timeout, Unset):
        timeout = _wait_from_environment(pool.queue_timeout)
    elif timeout is not None:
        if _seconds("timeout", timeout) < 0:
            raise ValueError(f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r}")
        timeout = None if math.isinf(timeout) else float(timeout)
    if isinstance(limit, Unset):
        limit = None
    elif limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int):
            raise TypeError(f"limit must be a whole number, not {limit!r}")
        limit = parse_number(limit)
    if isinstance(priority, Unset):
        priority = pool.priority
    elif isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be a whole number, not {priority!r}")
    elif not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        raise ValueError(f"priority must be from {-PRIORITY_LIMIT} to {PRIORITY_LIMIT}, not {priority!r}")
    if label is not None:
        if not isinstance(label, str):
            raise TypeError(f"label must be a string, not {label!r}")
        label = label[:LABEL_MAX]
    max_hold = options.max_hold
    if isinstance(max_hold, Unset):
        max_hold = pool.max_hold if pool.store is None else None  # a server's pool has a policy of its own
    elif max_hold is not None:
        if _seconds("max_hold", max_hold) <= 0:
            raise ValueError(f"max_hold must be more than 0 seconds, or None to hold for ever, not {max_hold!r}")
        max_hold = None if math.isinf(max_hold) else float(max_hold)
    for name in ("on_wait", "on_lost"):
        call = getattr(options, name)
        if call is not None and not callable(call):
            raise TypeError(f"{name} must be a function, or None, not {call!r}")
    kill_after = options.kill_after
    if isinstance(kill_after, Unset):
        kill_after = pool.kill_after
    elif not 0 <= _seconds("kill_after", kill_after) < math.inf:
        raise ValueError(f"kill_after must be 0 seconds or more, not {kill_after!r}")
    borrow, on_wait, agent, place = options.borrow, options.on_wait, options.agent, options.place
    since = _task_since(options, pool)
    purpose = options.purpose
    return Request(
        timeout, limit, priority, label, borrow, on_wait, argv, max_hold, kill_after, agent, place, purpose, since
    )


def _task_since(options: Options, pool: PoolConfig) -> float | None:
    since = options.task_since
    by_task = pool.order == "task" or pool.store is not None  # of its pools a server knows
    if callable(since):
        since = since() if by_task else None
    if since is None:
        return None
    if isinstance(since, bool) or not isinstance(since, (int, float)):
        raise TypeError(f"task_since must be a number, as time.time() gives it, or None, not {since!r:.60}")
    if not _EARLIEST <= since < math.inf:  # nan is in no range
        raise ValueError(f"task_since must be seconds since 1970, as time.time() gives them, not {since!r:.60}")
    return float(since) if by_task else None


def refuse_wrong(options: Options) -> None:
    """Raise for arguments that can't be meant, whatever the pool.

    :raises TypeError, ValueError: as `checked` does.
    """
    from leasecap._config.config import Config

    if isinstance(options.timeout, Unset):
        options = options._replace(timeout=None)  # the environment may be another one when it is called
    checked(options, Config("", {}, None, (), {}, {}, {}).pool("any"))


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    return -1.0 if math.isnan(value) else value  # in no range


def _wait_from_environment(otherwise: float | None) -> float | None:
    text = os.environ.get(WAIT_ENVIRONMENT)
    if not text:
        return otherwise
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(str(error), file="environment", key=WAIT_ENVIRONMENT, value=repr(text)) from error
