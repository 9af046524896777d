"""Gates behind gates: which one meters.

A command under a gate may start another one under a gate of its own. If both belong to one pool, a request that took a
slot in each would wait for itself at a limit of 1. The one nearest to the provider meters it. A gate learns of the one
it is behind as it learns of that one's address: from the environment.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "LEASECAP_GATE"


def describe(address: str, pools: Mapping[str, str]) -> str:
    """The value of `VARIABLE` for what runs under the gate at ``address``.

    :param pools: where requests to each upstream are metered, by the upstream's name: a place (`_ancestry.place`).
    """
    return json.dumps({"address": address, "pools": dict(pools)})


def metered_nearer(address: str, path: str, environ: Mapping[str, str]) -> str | None:
    """The place of the pool in which a gate at ``address`` (HOST:PORT) meters; None: none is there.

    :param path: of the URL; it names the gate's upstream.
    """
    try:
        outer = json.loads(environ.get(VARIABLE, ""))
        if outer["address"] != address:
            return None
        _, _, name, *_ = path.split("/")
        place = outer["pools"].get(name)
    except (ValueError, KeyError, TypeError, AttributeError):  # another version's, or no gate's
        return None
    return place if isinstance(place, str) else None


def metered_places(environ: Mapping[str, str]) -> frozenset[str]:
    """The places of all pools in which the gate that this runs under meters."""
    try:
        pools = json.loads(environ.get(VARIABLE, ""))["pools"].values()
    except (ValueError, KeyError, TypeError, AttributeError):
        return frozenset()
    return frozenset(place for place in pools if isinstance(place, str))
