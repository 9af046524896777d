"""A pool on a server as it stands, taken away and put back: its clock stands still meanwhile."""

from __future__ import annotations

from typing import Any, NamedTuple

import redis

from leasecap._redis_store.keys import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HASHES = ("pool", "records", "names")
_SETS = ("nested",)

_TAKE = """
local found = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'hash' then found[i] = redis.call('HGETALL', key)
  elseif kind == 'set' then found[i] = redis.call('SMEMBERS', key)
  elseif kind == 'zset' then found[i] = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else found[i] = {} end
end
return found
"""

# The pool's clock is the server's and an offset: with this one it goes on where it stood.
_RESUME = """
local time = redis.call('TIME')
local clock = tonumber(redis.call('HGET', KEYS[1], 'clock') or 0) + tonumber(ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'offset', string.format('%.0f', clock - time[1] * 1000 - math.floor(time[2] / 1000)))
end
"""

_COARSE = 250  # milliseconds: what is closer together is one moment; everything that matters is further apart


class Saved(NamedTuple):
    """What stands in each key, as a flat list."""

    found: tuple[tuple[str, ...], ...]

    def of(self, part: str) -> dict[str, str]:
        """A hash, a sorted set with its scores, or a set."""
        flat = self.found[PARTS.index(part)]
        if part in _SETS:
            return dict.fromkeys(flat, "")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    @property
    def now(self) -> int:
        """The pool's clock when it was used last, in milliseconds."""
        return int(self.of("pool").get("clock", 0))

    def held(self) -> int:
        return len(self.of("leases")) + len(self.of("granted"))

    def key(self) -> object:
        """The same for two states that nothing tells apart but the time of day and how they were come to."""
        pool, now = self.of("pool"), self.now
        places = [tuple(name[21:37] for name in self.of(part)) for part in ("queue", "passed")]
        times = [
            tuple((name[-16:] if part == "ended" else name[21:37], name[:1] == "+", coarse(float(at) - now))
                  for name, at in sorted(self.of(part).items()))
            for part in ("granted", "leases", "expiries", "cooling", "ended")
        ]  # fmt: skip
        waits = [coarse(max(float(pool.get(field, 0)) - now, 0)) for field in ("quiet", "closed")]
        decided = pool.get("decided") == pool.get("version")
        known = (pool.get("run"), pool.get("limit"), pool.get("feedback"), decided)
        return (
            *places,
            *times,
            *waits,
            known,
            tuple(sorted(self.of("names"))),
            tuple(sorted(self.of("declared").items())),
        )


def coarse(milliseconds: float) -> int:
    return round(milliseconds / _COARSE)


class Server:
    """Takes away and puts back.

    :ivar keys: of the pool.
    """

    def __init__(self, socket: str, keys: Sequence[str]) -> None:
        self.keys = list(keys)
        self._redis = redis.Redis(unix_socket_path=socket, decode_responses=True)
        self._take: Any = self._redis.register_script(_TAKE)
        self._resume: Any = self._redis.register_script(_RESUME)

    def take(self) -> Saved:
        return Saved(tuple(map(tuple, self._take(keys=self.keys))))

    def put(self, saved: Saved, later: int = 0) -> None:
        """:param later: milliseconds that have passed since."""
        with self._redis.pipeline(transaction=False) as line:
            line.delete(*self.keys)
            for part, key, flat in zip(PARTS, self.keys, saved.found, strict=True):
                if not flat:
                    continue
                if part in _SETS:
                    line.sadd(key, *flat)
                elif part in _HASHES:
                    line.hset(key, items=list(flat))
                else:
                    scores: Mapping[str, str] = dict(zip(flat[::2], flat[1::2], strict=True))
                    line.zadd(key, scores)
            self._resume(keys=self.keys[:1], args=[later], client=line)
            line.execute()

    def close(self) -> None:
        self._redis.close()
