"""What `leasecap doctor` tries out on a server. It changes nothing but keys of its own, and removes those."""

from __future__ import annotations

import queue
import shlex
import time
from secrets import token_hex

from leasecap._durations import format_duration
from leasecap._errors import StoreError, Unreachable
from leasecap._redis_store.client import Client
from leasecap._redis_store.keys import pool_keys
from leasecap._redis_store.rights import IN_SCRIPTS, SENT, acl_line
from leasecap._redis_store.script import Script
from leasecap._redis_store.subscription import Subscription, channel
from leasecap._store.health import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress

_PATIENCE = 5.0  # seconds
_ROUND_TRIPS, _LONGEST_MEASURING = 100, 2.0
_SLOW = 0.1  # seconds: a hand-off takes two of them
_WAKE_UPS = 5
_CLOCKS_APART = 5.0  # seconds

_TRIAL = Script("trial", "#!lua\nreturn redis.call(unpack(ARGV))")
_NOTHING = Script("nothing", "#!lua flags=no-writes\nreturn 1")
_INFO = Script("info", "#!lua flags=no-writes\nreturn redis.call('INFO', ARGV[1])")
_RANK = ("ok", "note", "bad")


class Examination:
    """The checks of one server. Each raises StoreError or ConfigError when that is what it finds."""

    def __init__(self, address: StoreAddress, pools: Sequence[PoolName]) -> None:
        """:param pools: some that are kept there."""
        self._client = Client(address)
        self._pools = {name.text: pool_keys(address.prefix, name)[0] for name in pools}
        self._address = address
        self._name = f"doctor-{token_hex(8)}"
        self._key = f"{address.prefix}:{{{self._name}}}:trial"

    def checks(self) -> Iterator[tuple[str, Callable[[], Finding]]]:
        """Each check with its name. Where the first one fails, the others would say the same in other words."""
        yield "server", self.reach
        if self._client.server is None:
            return
        yield "rights", self.rights
        yield "memory", self.memory
        yield "data", self.data
        yield "replication", self.replication
        yield "round trips", self.round_trips
        yield "server clock", self.clock
        yield "wake-ups", self.wake_ups

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def reach(self) -> Finding:
        """Whether it is there, lets us in, and is none that is too old."""
        self._client.command("PING", within=_PATIENCE)
        server = self._client.server
        assert server is not None
        kind = (
            "a node of a cluster" if server.is_cluster else "found by Sentinels" if self._address.service else "alone"
        )
        running = format_duration(time.monotonic() - server.started)
        return Finding(
            "ok", f"{self._address.shown}: {server.software} {server.version}, {kind}, running for {running}"
        )

    def rights(self) -> Finding:
        """Whether the user may do all that is needed."""
        try:
            missing = [*self._refused(SENT, self._send), *self._refused(IN_SCRIPTS, self._run)]
        finally:
            self._clear()
        if not missing:
            return Finding("ok", f"{len(SENT) + len(IN_SCRIPTS)} commands tried, on keys {self._address.prefix}:*")
        user = self._address.user or "default"
        line = shlex.join(acl_line(user, self._address.prefix).split())
        found = f"the user {user} may not: {', '.join(dict.fromkeys(missing))}"
        return Finding("bad", found, f"This gives all that is needed:\n  redis-cli ACL SETUSER {line}")

    def _refused(
        self, trials: Mapping[str, Sequence[str]], attempt: Callable[[Sequence[str]], object]
    ) -> Iterator[str]:
        """The commands that fail."""
        for command, words in trials.items():
            names = {"KEY": self._key_of(command), "CHANNEL": channel(self._address, self._name)}
            try:
                attempt([names.get(word, word) for word in words])
            except Unreachable:
                raise
            except StoreError as error:
                yield command if "the right" in error.message else f"{command} ({error.message})"

    def _clear(self) -> None:
        keys = [self._key_of(command) for command in (*SENT, *IN_SCRIPTS)]
        for attempt in (self._send, self._run):
            try:
                attempt(["DEL", *keys])
            except StoreError:
                pass  # that is told of the rights

    def _key_of(self, command: str) -> str:
        return f"{self._key}:{command}"

    def _send(self, words: Sequence[str]) -> None:
        self._client.command(*words, within=_PATIENCE)

    def _run(self, words: Sequence[str]) -> None:
        self._client.run(_TRIAL, [self._key], words, within=_PATIENCE)

    def memory(self) -> Finding:
        """Whether it could evict a pool's keys."""
        return self._worst("memory", self._memory)

    @staticmethod
    def _memory(said: Mapping[str, str]) -> Finding:
        most, policy = int(said.get("maxmemory") or 0), said.get("maxmemory_policy", "")
        if most == 0:
            return Finding("ok", "no maxmemory, so nothing is evicted")
        if policy.startswith("allkeys-"):
            remedy = (
                "A lease that is evicted is granted twice. Set maxmemory-policy noeviction, or use a server without it."
            )
            return Finding("bad", f"maxmemory is {most >> 20} MiB, and the policy {policy} evicts any key", remedy)
        used = int(said.get("used_memory") or 0) / most
        return Finding(
            "note" if used > 0.9 else "ok", f"{used:.0%} of {most >> 20} MiB used, {policy}: no lease is evicted"
        )

    def data(self) -> Finding:
        """Whether it has its data after a restart."""
        return self._worst("persistence", self._data)

    @staticmethod
    def _data(said: Mapping[str, str]) -> Finding:
        if said.get("aof_enabled") != "1":
            remedy = (
                "After a restart nobody is granted a slot until all who live have renewed theirs, and limits and "
                "policies (`leasecap limit`, `leasecap policy`) are gone. To keep them: appendonly yes"
            )
            return Finding("note", "no append-only file: a restart forgets leases, limits and policies", remedy)
        if said.get("aof_last_write_status", "ok") != "ok":
            return Finding("bad", "it can't write its append-only file", "Its log tells why; the disk may be full.")
        return Finding("ok", "it keeps an append-only file")

    def replication(self) -> Finding:
        """Whether it is the one to write to, and what a failover would cost."""
        said = self._info("replication")
        if said.get("role") != "master":
            return Finding("bad", "it is a replica, which takes no writes", "Name the master, or its Sentinels.")
        replicas = int(said.get("connected_slaves") or 0)
        if not replicas:
            return Finding("ok", "no replica")
        least = self._least_replicas()
        found = f"{replicas} replica{'s' if replicas > 1 else ''}"
        if self._address.service and least == 0:
            remedy = (
                "A master that is cut off goes on granting beside its successor until it is told. With "
                "min-replicas-to-write 1 it stops after min-replicas-max-lag seconds."
            )
            return Finding("note", f"{found}, and it takes writes without any", remedy)
        return Finding("ok", found)

    def _least_replicas(self) -> int | None:
        """``min-replicas-to-write``; None if we aren't allowed to ask."""
        try:
            found = self._client.command("CONFIG", "GET", "min-replicas-to-write", within=_PATIENCE)
        except StoreError:
            return None
        return int(found[1]) if isinstance(found, list) and len(found) == 2 else None

    def round_trips(self) -> Finding:
        """How long one call takes."""
        times: list[float] = []
        until = time.monotonic() + _LONGEST_MEASURING
        self._client.run(_NOTHING, [self._key], within=_PATIENCE)
        while not times or (len(times) < _ROUND_TRIPS and time.monotonic() < until):
            began = time.monotonic()
            self._client.run(_NOTHING, [self._key])
            times.append(time.monotonic() - began)
        times.sort()
        median, slowest = times[len(times) // 2], times[len(times) * 99 // 100]
        found = f"p50 {median * 1000:.2f} ms, p99 {slowest * 1000:.2f} ms of {len(times)}"
        if median > _SLOW:
            return Finding(
                "note", found, "A slot is handed on in two of them: a server that is nearer would be faster."
            )
        return Finding("ok", found)

    def clock(self) -> Finding:
        """How far its clock is from ours."""
        before = time.time()
        seconds, micros = (int(part) for part in self._client.command("TIME", within=_PATIENCE))
        apart = seconds + micros / 1e6 - (before + time.time()) / 2
        found = f"{abs(apart) * 1000:.0f} ms {'ahead of' if apart > 0 else 'behind'} ours; leases go by the server's"
        if abs(apart) > _CLOCKS_APART:
            return Finding(
                "note", found, "It harms no cap. Times that `status` shows may be wrong: set the clocks (NTP)."
            )
        return Finding("ok", found)

    def wake_ups(self) -> Finding:
        """Whether messages come back."""
        heard: queue.Queue[bytes | None] = queue.Queue()
        subscription = Subscription(self._client, self._name, heard.put)
        if not subscription.start():
            return Finding("note", "no thread can be started here", "Who waits looks by itself, more seldom.")
        times = []
        try:
            heard.get(timeout=_PATIENCE)
            for number in range(_WAKE_UPS):
                began = time.monotonic()
                self._client.command("PUBLISH", subscription.own, str(number), within=_PATIENCE)
                heard.get(timeout=_PATIENCE)
                times.append(time.monotonic() - began)
        except queue.Empty:
            right = f"&{self._address.prefix}:*"
            remedy = f"Who waits looks by itself, more seldom. The user needs the rights {right} and +subscribe."
            return Finding("note", "messages don't come back", remedy)
        finally:
            subscription.stop()
        return Finding("ok", f"messages come back in {max(times) * 1000:.1f} ms at most of {len(times)}")

    def _worst(self, section: str, judge: Callable[[Mapping[str, str]], Finding]) -> Finding:
        """What is found of the server; in a cluster, where each node says it of itself alone, of those with the pools
        as well."""
        worst = judge(self._info(section))
        if self._client.server is not None and self._client.server.is_cluster:
            for pool, key in self._pools.items():
                found = judge(_said(self._client.run(_INFO, [key], [section], within=_PATIENCE)))
                if _RANK.index(found.verdict) > _RANK.index(worst.verdict):
                    worst = found._replace(found=f"{found.found} (the node that has the pool {pool})")
        return worst

    def _info(self, section: str) -> dict[str, str]:
        return _said(self._client.command("INFO", section, within=_PATIENCE))


def _said(answer: bytes) -> dict[str, str]:
    text = answer.decode(errors="replace")
    return {key: value for key, _, value in (line.partition(":") for line in text.splitlines())}
