"""A pool on a server as it stands, taken away and put back: its clock stands still meanwhile."""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.connection import UnixDomainSocketConnection

from leasecap._redis_store.keys import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

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

# The pool's clock is the server's and an offset: with this one it goes on where it stood, or some milliseconds later.
_PUT = """
local at = 2
for _, key in ipairs(KEYS) do
  redis.call('DEL', key)
  local kind, count = ARGV[at], tonumber(ARGV[at + 1])
  for i = at + 2, at + 1 + count, kind == 'set' and 1 or 2 do
    if kind == 'hash' then redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    elseif kind == 'set' then redis.call('SADD', key, ARGV[i])
    else redis.call('ZADD', key, ARGV[i + 1], ARGV[i]) end
  end
  at = at + 2 + count
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  local time, clock = redis.call('TIME'), tonumber(redis.call('HGET', KEYS[1], 'clock') or 0)
  local offset = clock + tonumber(ARGV[1]) - time[1] * 1000 - math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'offset', string.format('%.0f', offset))
end
return 1
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
        kind: Any = UnixDomainSocketConnection
        self._connection = kind(path=socket, decode_responses=True, protocol=2, driver_info=None)
        self._take, self._put = (self._call("SCRIPT", "LOAD", script) for script in (_TAKE, _PUT))

    def _call(self, *words: str | int) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()

    def take(self) -> Saved:
        return Saved(tuple(map(tuple, self._call("EVALSHA", self._take, len(self.keys), *self.keys))))

    def put(self, saved: Saved, later: int = 0) -> None:
        """:param later: milliseconds that have passed since."""
        words: list[str | int] = [later]
        for part, flat in zip(PARTS, saved.found, strict=True):
            words += ["set" if part in _SETS else "hash" if part in _HASHES else "sorted", len(flat), *flat]
        self._call("EVALSHA", self._put, len(self.keys), *self.keys, *words)

    def close(self) -> None:
        self._connection.disconnect()
