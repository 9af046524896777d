"""Commands run in namespaces of their own, where these are to be had."""

from __future__ import annotations

import subprocess

import pytest

Wrapper = tuple[str, ...]


def under(*wrappers: Wrapper) -> Wrapper:
    """The first of ``wrappers`` under which a command can be run here."""
    why = []
    for wrapper in wrappers:
        try:
            tried = subprocess.run([*wrapper, "true"], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"needs {wrapper[0]}(1)")
        if tried.returncode == 0:
            return wrapper
        why.append(f"{' '.join(wrapper)}: {tried.stderr.strip()}")
    pytest.skip(f"not to be had here: {'; '.join(why)}")


def mounted(script: str, *, as_root: bool = False) -> Wrapper:
    """Run a command in a mount namespace in which ``script`` has run.

    :param as_root: a user namespace of its own, in which anybody is root, doesn't serve.
    """
    ways = ("-m",) if as_root else ("-Urm", "-m")
    return under(*(("unshare", way, "sh", "-c", f'{script} && exec "$@"', "sh") for way in ways))
