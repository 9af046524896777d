"""Whether providers that are to say how much they count do say it."""

from __future__ import annotations

from leasecap._config.config import load_config
from leasecap._doctor.check import Check
from leasecap._errors import LeasecapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._doctor.check import Site


def asked(site: Site) -> list[str]:
    """The pools with a table in config.toml whose providers are asked over HTTP."""
    try:
        loaded = load_config(site.root)
        return [name.text for name in loaded.pools if loaded.pool(name.text).rules.usage_url]
    except LeasecapError:
        return []  # the check of the configuration says what is wrong


def answer(pool: str, site: Site) -> Check:
    """What the provider of ``pool`` answers now."""
    from leasecap._usage.http import count_at
    from leasecap._usage.no_count import NoCount

    rules = load_config(site.root).pool(pool).rules
    try:
        count, limit = count_at(rules)
    except NoCount as error:
        remedy = "Until it answers the other rules decide. What is in the environment here may differ from an agent's."
        return Check("usage", "note", f"pool {pool}: no usage information: {error}", remedy)
    allowed = "" if limit is None else f", and allows {limit}"
    return Check("usage", "ok", f"pool {pool}: the provider counts {count} in flight{allowed}")
