"""What the user of a store must be allowed to do, each with a harmless trial.

It is tried, and not looked up: to see what a user is allowed to is one more right.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SENT: Mapping[str, Sequence[str]] = {
    "info": ("INFO", "server"),
    "ping": ("PING",),
    "eval": ("EVAL", "return 1", "1", "KEY"),
    "smembers": ("SMEMBERS", "KEY"),
    "sadd": ("SADD", "KEY", "a"),
    "srem": ("SREM", "KEY", "a"),
    "publish": ("PUBLISH", "CHANNEL", "a"),
    "del": ("DEL", "KEY"),
}
"""What is sent as it is, with its words. KEY and CHANNEL stand for names that begin with the prefix."""

IN_SCRIPTS: Mapping[str, Sequence[str]] = {
    "info": ("INFO", "memory"),
    "time": ("TIME",),
    "hset": ("HSET", "KEY", "a", "1"),
    "hget": ("HGET", "KEY", "a"),
    "hmget": ("HMGET", "KEY", "a"),
    "hgetall": ("HGETALL", "KEY"),
    "hexists": ("HEXISTS", "KEY", "a"),
    "hkeys": ("HKEYS", "KEY"),
    "hlen": ("HLEN", "KEY"),
    "hdel": ("HDEL", "KEY", "a"),
    "sadd": ("SADD", "KEY", "a"),
    "scard": ("SCARD", "KEY"),
    "srem": ("SREM", "KEY", "a"),
    "zadd": ("ZADD", "KEY", "1", "a"),
    "zcard": ("ZCARD", "KEY"),
    "zcount": ("ZCOUNT", "KEY", "0", "1"),
    "zmscore": ("ZMSCORE", "KEY", "a"),
    "zrange": ("ZRANGE", "KEY", "0", "-1"),
    "zrank": ("ZRANK", "KEY", "a"),
    "zscore": ("ZSCORE", "KEY", "a"),
    "zrem": ("ZREM", "KEY", "a"),
    "zremrangebyscore": ("ZREMRANGEBYSCORE", "KEY", "0", "1"),
    "publish": ("PUBLISH", "CHANNEL", "a"),
    "del": ("DEL", "KEY"),
}
"""What scripts do. Each is tried in a script of its own, for Redis 7.0 doesn't say which one it refuses."""

# Tried by what needs them: a connection to another database than 0, a script that is known, a subscription, a cluster.
_BY_USE = ("select", "evalsha", "subscribe", "asking")


def acl_line(user: str, prefix: str) -> str:
    """What to give to `redis-cli ACL SETUSER`, its password left out."""
    commands = sorted({*SENT, *IN_SCRIPTS, *_BY_USE})
    return f"{user} on ~{prefix}:* &{prefix}:* " + " ".join(f"+{command}" for command in commands)
