"""Processes that run this very package."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def finding_it(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which ``python -P -m leasecap...`` finds the package that this process runs.

    This one may have it from its working directory, which ``-P`` keeps out: a file there that is named like a module
    must not be imported.
    """
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": paths}
