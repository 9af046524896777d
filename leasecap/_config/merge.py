"""What holds for a pool: its own keys, and those of [defaults] for which it has none."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE_URL_KEYS = ("usage_url", "usage_field", "usage_limit_field", "usage_key_env", "usage_key_header")
"""The keys that say how a provider is asked over HTTP."""

_WAYS = ("usage_command", *USAGE_URL_KEYS)


def merged(defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """The pool's keys, ``own`` before ``defaults``.

    A pool that says whom to ask for its provider's count takes nothing of that from the defaults: their key is for
    another host.
    """
    if "usage_command" in own or "usage_url" in own:
        defaults = {key: value for key, value in defaults.items() if key not in _WAYS}
    return {**defaults, **own}
