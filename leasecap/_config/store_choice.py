"""Where a pool is kept whose own table doesn't say.

What the user has said for all pools doesn't hold for servers of this very machine: each machine has its own, and a
cap that machines shared would be a wrong one.
"""

from __future__ import annotations

import os

from leasecap._config.presets import PRESETS
from leasecap._errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._config.store_address import StoreAddress

ENVIRONMENT = "LEASECAP_STORE"


def is_of_this_machine(identity: str) -> bool:
    """Whether a pool of this identity is that of a server which each machine has for itself."""
    preset = PRESETS.get(identity)
    if preset is not None and preset.local:
        return True
    host = identity.rpartition(":")[0] if ":" in identity else identity
    return host == "localhost" or host.endswith(".localhost") or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdigit() for part in parts)


def default_store(defaults: Mapping[str, object]) -> StoreAddress | None:
    """The store that the environment names, else ``[defaults]``; None for the root's files.

    :raises ConfigError: when what the environment names is none.
    """
    text = os.environ.get(ENVIRONMENT)
    if text:
        return named_by_environment(text)
    return defaults.get("store")  # type: ignore[return-value]  # the parser of `schema` has given it its type


def named_by_environment(text: str) -> StoreAddress | None:
    """The store that ``text``, the value of the variable, names.

    :raises ConfigError: when it is none.
    """
    from leasecap._config.store_address import parse_store

    try:
        return parse_store(text)
    except ConfigError as error:
        raise ConfigError(
            error.message, file="environment", key=ENVIRONMENT, value=error.value, allowed=error.allowed
        ) from None
