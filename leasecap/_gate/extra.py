"""What `leasecap run --per-request` needs beside leasecap itself; looked for without being loaded."""

from __future__ import annotations

import importlib.util
import sys

INSTALL = "pip install 'leasecap[gate]'"

_NEEDED = ("h11", "truststore") if sys.platform in ("darwin", "win32") else ("h11",)


def missing() -> list[str]:
    """The packages that aren't installed."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]
