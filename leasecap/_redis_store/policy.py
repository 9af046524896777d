"""What holds for everybody who shares a pool on a server, whatever each machine's config.toml says.

A machine's file is pushed by a person. From then on its values are the pool's, until another one is pushed.
"""

from __future__ import annotations

import json

from leasecap._errors import ConfigError
from leasecap._feedback.rules import Rules
from leasecap._redis_store.deciding import ARRIVAL, order_in, rules_in
from leasecap._redis_store.lua.state import TTL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._config.config import PoolConfig
    from leasecap._redis_store.answer import Picture

SHORTEST_TTL = 1.0

_NOT_YET = tuple(key for key in Rules._fields if key.startswith("usage_"))
"""A server can't be told what to run or ask on other machines."""


def fields_of(settings: PoolConfig) -> dict[str, str]:
    """The fields of the pool that make this machine's configuration everybody's.

    :raises ConfigError: when it says what a server can't do.
    """
    for key in _NOT_YET:
        if getattr(settings.rules, key) != getattr(Rules(), key):
            raise ConfigError(
                f"{key} is for pools in files alone so far",
                key=f"pools.{settings.name.text}.{key}",
                allowed="take it out",
            )
    if settings.stale_after < SHORTEST_TTL:
        raise ConfigError(
            f"a stale_after of {settings.stale_after:g} s is too short for a network",
            key=f"pools.{settings.name.text}.stale_after",
            allowed=f"allowed: {SHORTEST_TTL:g} s or more",
        )
    rules = {key: value for key, value in settings.rules._asdict().items() if key not in _NOT_YET}
    return {
        "rules": json.dumps({"order": settings.order, **rules}),
        "by_task": "1" if settings.order == "task" else "",
        "decider": "python" if settings.rules.stagger_after_idle else "",
        "ttl": f"{settings.stale_after * 1000:.0f}",
        "cooldown": f"{settings.rules.cooldown * 1000:.0f}",
    }


def policy_of(picture: Picture) -> dict[str, object]:
    """What holds for everybody, by the keys of config.toml.

    :raises ValueError: when it can't be read.
    """
    rules = {key: value for key, value in rules_in(picture.seen.rules)._asdict().items() if key not in _NOT_YET}
    return {"order": order_in(picture.seen.rules), "stale_after": picture.ttl, **rules}


def differing(settings: PoolConfig, policy: Mapping[str, object]) -> list[str]:
    """The keys that this machine's configuration sets to something else than what holds."""
    own = {"order": settings.order, "stale_after": settings.stale_after, **settings.rules._asdict()}
    usual = {"order": ARRIVAL, "stale_after": TTL, **Rules()._asdict()}
    return sorted(key for key in own if own[key] != usual[key] and own[key] != policy.get(key, usual[key]))
