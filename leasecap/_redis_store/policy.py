"""What holds for everybody who shares a pool on a server, whatever each machine's config.toml says.

A machine's file is pushed by a person. From then on its values are the pool's, until another one is pushed.
"""

from __future__ import annotations

import json

from leasecap._errors import ConfigError
from leasecap._feedback.rules import Rules
from leasecap._redact import mask, printable
from leasecap._redis_store.deciding import OWN_KEYS, order_in, rules_in
from leasecap._redis_store.holding import Holding, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from leasecap._config.config import PoolConfig
    from leasecap._redis_store.answer import Picture

SHORTEST_TTL = 1.0

_LONGEST_SHOWN = 80  # characters
_NO_OWN: dict[str, Any] = {key: getattr(Rules(), key) for key in OWN_KEYS}


def fields_of(settings: PoolConfig) -> dict[str, str]:
    """The fields of the pool that make this machine's configuration everybody's.

    :raises ConfigError: when it says what a server can't do.
    """
    if settings.stale_after < SHORTEST_TTL:
        raise ConfigError(
            f"a stale_after of {settings.stale_after:g} s is too short for a network",
            key=f"pools.{settings.name.text}.stale_after",
            allowed=f"allowed: {SHORTEST_TTL:g} s or more",
        )
    rules = shared(settings.rules)
    return {
        "rules": json.dumps({"order": settings.order, **_listed(rules)}),
        "by_task": "1" if settings.order == "task" else "",
        "decider": "python" if rules.stagger_after_idle or rules.ask else "",
        "ttl": f"{settings.stale_after * 1000:.0f}",
        "cooldown": f"{settings.rules.cooldown * 1000:.0f}",
        "holding": text_of(_holding(settings)),
    }


def _holding(settings: PoolConfig) -> Holding:
    return Holding(*(getattr(settings, key) for key in Holding._fields))


def policy_of(picture: Picture) -> dict[str, object]:
    """What holds for everybody, by the keys of config.toml.

    :raises ValueError: when it can't be read.
    """
    found = picture.seen.rules
    return {
        "order": order_in(found),
        "stale_after": picture.ttl,
        **picture.holding._asdict(),
        **_listed(rules_in(found)),
    }


def shared(rules: Rules) -> Rules:
    """The part of a machine's rules that can be everybody's: that the provider is asked, but not how."""
    return rules._replace(usage_source=_source(rules), **_NO_OWN)


def asked_by(own: Rules, policy: Rules) -> Rules:
    """The rules by which a machine asks: how stands in its own file, and when in the policy."""
    return policy._replace(**{key: getattr(own, key) for key in OWN_KEYS})


def _source(rules: Rules) -> str:
    if rules.usage_url:
        from leasecap._config.usage import parse_url  # few pools have a provider that is asked

        return parse_url(rules.usage_url).shown
    return printable(mask(rules.usage_command[0]), _LONGEST_SHOWN) if rules.usage_command else ""


def _listed(rules: Rules) -> dict[str, object]:
    return {key: value for key, value in rules._asdict().items() if key not in OWN_KEYS}


def differing(settings: PoolConfig, policy: Mapping[str, object]) -> list[str]:
    """The keys that this machine's configuration sets to something else than what holds."""
    holding, rules = _holding(settings)._asdict(), _listed(shared(settings.rules))
    own = {"order": settings.order, "stale_after": settings.stale_after, **holding, **rules}
    source = "usage_url" if settings.rules.usage_url else "usage_command"
    found = {source if key == "usage_source" else key for key in own if own[key] != policy.get(key)}
    return sorted(found & settings.written)
