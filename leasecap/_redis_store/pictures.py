"""The pools in stores as people are shown them."""

from __future__ import annotations

import shlex
from functools import lru_cache, partial

from leasecap._config.pool_name import pool_name
from leasecap._decisions.entry import parse_entry
from leasecap._errors import LeasecapError, StoreError, Unreachable
from leasecap._host.own_record import this_host
from leasecap._liveness.record import decode_record
from leasecap._liveness.verdict import comparable
from leasecap._redis_store.keys import pools_key
from leasecap._redis_store.open_pool import OpenPool
from leasecap._redis_store.policy import differing, policy_of
from leasecap._redis_store.store import RedisStore
from leasecap._store.picture import EntryPicture, LatencyPicture, PoolPicture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._decisions.entry import Entry
    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Record
    from leasecap._redis_store.answer import Picture
    from leasecap._redis_store.own_store import OwnStore
    from leasecap._store.picture import State

    T = TypeVar("T")

_LINES = 2_000  # names that are listed at most
_TRIES = 2


class RedisPictures:
    """Pools in stores; the parts of `_store.picture.Pictures` that are about pools."""

    def __init__(self, at: Callable[[StoreAddress], OwnStore], addresses: Iterable[StoreAddress]) -> None:
        """
        :param at: the store at an address, as this process uses it.
        :param addresses: whose pools `names` names.
        """
        self.unlisted = ""
        self._at = at
        self._addresses = tuple(dict.fromkeys(addresses))
        self._failed: dict[StoreAddress, list[Unreachable]] = {}
        self._answered: set[StoreAddress] = set()

    def names(self) -> list[PoolName]:
        """The names of pools that somebody has used, as far as the stores remember them and can be asked."""
        found: list[PoolName] = []
        troubles = []
        for address in self._addresses:
            try:
                command = partial(self._at(address).client.command, "SMEMBERS", pools_key(address.prefix))
                names = self._asked(address, command)
            except LeasecapError as error:  # its password may be one that `leasecap run` has taken out, for instance
                troubles.append(f"{error}\nThe pools that nobody has configured there are not shown.")
                continue
            found += [pool_name(name.decode("utf-8", "replace")) for name in sorted(names)[:_LINES]]
        self.unlisted = "\n".join(troubles)
        return found

    def pool(self, settings: PoolConfig, hours: int = 0) -> PoolPicture | None:
        """The picture of one pool; None if nobody has used it.

        :param hours: see `_store.picture.Pictures.pool`.
        :raises StoreError: when it can't be read.
        """
        assert settings.store is not None
        store = RedisStore(OpenPool(self._at(settings.store), settings))
        picture = self._asked(settings.store, store.pool.picture)
        if not picture.is_used:
            return None
        error, feedback = None, None
        seen = picture.seen
        try:
            feedback, snapshot = store.feedback_in(seen)
        except StoreError as trouble:
            error = str(trouble)
            _, snapshot = store.feedback_in(seen._replace(feedback="", rules=""))
        entries = _Entries(picture, store.own.effects)
        held = sorted(map(parse_entry, (*seen.leases, *seen.granted)), key=lambda entry: (entry.order, entry))
        return PoolPicture(
            store.path,
            "server",
            True,
            snapshot,
            tuple(entries.lease(entry) for entry in held),
            tuple(entries.ticket(parse_entry(name), "waiting") for name in sorted(seen.queue)),
            tuple(entries.ticket(parse_entry(name), "parked") for name in sorted(seen.passed)),
            feedback,
            error,
            _latency(store, hours),
            _notes(settings, picture),
        )

    def _asked(self, address: StoreAddress, ask: Callable[[], T]) -> T:
        """What ``ask`` returns. A store that doesn't answer is asked no more: that can take six seconds each time. One
        that has answered is: a cluster does so though one of its nodes is away.

        :raises StoreError: when it is away, or refuses.
        """
        failed = self._failed.setdefault(address, [])
        if len(failed) >= _TRIES and address not in self._answered:
            raise failed[-1]
        try:
            found = ask()
        except Unreachable as error:
            failed.append(error)
            raise
        self._answered.add(address)
        return found


def _latency(store: RedisStore, hours: int) -> LatencyPicture:
    if not hours:
        return LatencyPicture({}, ())
    try:
        return LatencyPicture(*store.pool.latency.read(hours))
    except StoreError as error:  # who holds and who waits is shown all the same
        return LatencyPicture({}, (str(error),))


def _notes(settings: PoolConfig, picture: Picture) -> tuple[str, ...]:
    lines: tuple[str, ...] = ()
    if picture.seen.closed_for:
        left = f"{picture.seen.closed_for:.0f} s"
        lines += (f"the server was started anew, or has lost something: nobody gets a slot for {left}",)
    try:
        policy = policy_of(picture)
    except ValueError:
        return lines  # what is wrong with it is told as an error
    other = differing(settings, policy)
    if policy["usage_source"] and not settings.rules.ask:
        lines += ("config.toml doesn't say how to ask the provider for its count: set usage_url or usage_command",)
    if other:
        what = f"this machine's config.toml says something else of {', '.join(other)} than the server, which holds"
        lines += (f"{what}: `leasecap policy show {shlex.quote(settings.name.text)}`",)
    return lines


class _Entries:
    """The entries of one picture."""

    def __init__(self, picture: Picture, effects: Effects) -> None:
        self._picture = picture
        self._me = effects.me()
        self._presence = lru_cache(maxsize=None)(effects.presence)
        self._here = this_host()

    def lease(self, entry: Entry) -> EntryPicture:
        seen, name = self._picture.seen, entry.name
        state: State = "held" if name in seen.leases else "granted"
        since = seen.now - (seen.leases.get(name) or seen.granted[name])
        return self._picture_of(entry, state, since)

    def ticket(self, entry: Entry, state: State) -> EntryPicture:
        now, asked = self._picture.seen.now, self._picture.records.get(f"?{entry.token}")
        # With order = "task" its place is no time.
        since = now - (entry.order / 1e6 if asked is None else float(asked) / 1000)
        return self._picture_of(entry, state, max(since, 0.0))

    def _picture_of(self, entry: Entry, state: State, since: float) -> EntryPicture:
        record = decode_record(self._picture.records.get(entry.token, b""))
        left = self._picture.expiries.get(entry.name, 0.0) - self._picture.seen.now
        alive, evidence, stopped = left > 0, f"ends in {max(left, 0):.0f} s unless renewed", False
        if record is not None and record.start is not None and comparable(record, self._me):
            seen = [self._presence(record.pid, record.start)]
            if record.child is not None and record.child.pid:
                seen.append(self._presence(record.child.pid, record.child.start))
            alive, stopped = set(seen) != {"gone"}, "stopped" in seen
            evidence = "process runs" if alive else "process gone"
            if stopped and state in ("waiting", "parked"):
                state = "stopped"
        over = 0.0
        if record is not None and record.max_hold is not None and state == "held":
            over = since - record.max_hold
        age = max(self._picture.ttl - left, 0.0)
        answered = self._picture.records.get(f"!{entry.token}")
        ago = None if answered is None else max(self._picture.seen.now - float(answered) / 1000, 0.0)
        return EntryPicture(entry, state, record, self._host(record), alive, evidence, stopped, since, age, over, ago)

    def _host(self, record: Record | None) -> str | None:
        return None if record is None or record.host == self._here else record.host
