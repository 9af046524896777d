"""What is installed beside leasecap, looked for without being loaded, and the command that adds what is missing."""

from __future__ import annotations

import importlib.util
import os
import sys

_NEEDED = {
    "gate": ("h11", "truststore") if sys.platform in ("darwin", "win32") else ("h11",),
    "httpx": ("httpx",),
    "httpx2": ("httpx2",),
    "redis": ("redis",),
}
"""The packages of each extra."""


def missing(extra: str) -> list[str]:
    """The packages of an extra that aren't installed."""
    return [name for name in _NEEDED[extra] if importlib.util.find_spec(name) is None]


def to_install(what: str) -> str:
    """The command that adds an extra, or another package, where this leasecap is installed."""
    is_extra = what in _NEEDED
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        return f"pipx inject {os.path.basename(sys.prefix)} {' '.join(_NEEDED.get(what, (what,)))}"
    if os.path.exists(os.path.join(sys.prefix, "uv-receipt.toml")):
        # It takes away what isn't named again.
        extras = [extra for extra in _NEEDED if extra == what or not missing(extra)]
        named = f"uv tool install 'leasecap[{','.join(extras)}]'" if extras else "uv tool install leasecap"
        return named if is_extra else f"{named} --with {what}"
    return f"pip install 'leasecap[{what}]'" if is_extra else f"pip install {what}"
