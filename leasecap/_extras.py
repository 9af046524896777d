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

_UV_CACHE = "archive-v"
"""Where uv keeps what it makes for one call, its name begins with this."""


def missing(extra: str) -> list[str]:
    """The packages of an extra that aren't installed."""
    return [name for name in _NEEDED[extra] if importlib.util.find_spec(name) is None]


def to_install(what: str) -> str:
    """The command that adds an extra, or another package, where this leasecap is installed."""
    is_extra = what in _NEEDED
    above, name = os.path.split(sys.prefix)
    kind = os.path.basename(above)
    # All but pipx inject and pip take away what isn't named again.
    extras = [extra for extra in _NEEDED if extra == what or not missing(extra)]
    named = f"'leasecap[{','.join(extras)}]'" if extras else "leasecap"
    beside = "" if is_extra else f" --with {what}"
    if os.path.exists(os.path.join(sys.prefix, "pipx_metadata.json")):
        if kind == "venvs":
            return f"pipx inject {name} {' '.join(_NEEDED.get(what, (what,)))}"
        return f"pipx run --spec {named}{beside} leasecap ..."
    if os.path.exists(os.path.join(sys.prefix, "uv-receipt.toml")):
        return f"uv tool install {named}{beside}"
    if kind.startswith(_UV_CACHE):
        return f"uvx --from {named}{beside} leasecap ..."
    made = _how_made()
    beneath = made.get("extends-environment")
    if beneath and f"{os.sep}{_UV_CACHE}" in __file__:
        return f"uv run --with {named}{beside} ..."
    pip = "pip install"
    if "uv" in made and importlib.util.find_spec("pip") is None:  # `pip` would be that of another environment
        import shlex

        pip = f"uv pip install --python {shlex.quote(beneath or sys.prefix)}"
    return f"{pip} 'leasecap[{what}]'" if is_extra else f"{pip} {what}"


def _how_made() -> dict[str, str]:
    """What is noted of how the environment was made. uv lays one over another for what it runs `--with`."""
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg"), encoding="utf-8", errors="replace") as notes:
            pairs = [line.partition("=") for line in notes]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in pairs}
