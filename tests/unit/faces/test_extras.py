"""The command that adds what is missing is one for the place where leasecap is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leasecap import _extras
from leasecap._extras import to_install


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment called leasecap, that this Python stands in."""
    prefix = tmp_path / "leasecap"
    prefix.mkdir()
    monkeypatch.setattr(sys, "prefix", str(prefix))
    for extra in ("httpx", "httpx2", "redis"):
        monkeypatch.setitem(_extras._NEEDED, extra, ("no_such_package", extra))
    monkeypatch.setitem(_extras._NEEDED, "gate", ("os",))
    return prefix


def test_pip_adds_it_to_an_environment(prefix: Path) -> None:
    assert to_install("redis") == "pip install 'leasecap[redis]'"
    assert to_install("socksio") == "pip install socksio"


def test_pipx_injects_the_packages_where_it_has_installed_leasecap(prefix: Path) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert to_install("redis") == "pipx inject leasecap no_such_package redis"
    assert to_install("socksio") == "pipx inject leasecap socksio"


def test_uv_installs_its_tool_anew_with_what_it_has_already(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prefix / "uv-receipt.toml").touch()
    assert to_install("redis") == "uv tool install 'leasecap[gate,redis]'"
    assert to_install("socksio") == "uv tool install 'leasecap[gate]' --with socksio"
    monkeypatch.setitem(_extras._NEEDED, "gate", ("no_such_package",))
    assert to_install("redis") == "uv tool install 'leasecap[redis]'"
    assert to_install("socksio") == "uv tool install leasecap --with socksio"


def test_pool_on_a_server_says_what_installs_redis(prefix: Path) -> None:
    (prefix / "pipx_metadata.json").touch()
    without = f"import sys; sys.prefix = {str(prefix)!r}; sys.modules['redis'] = None"
    server = {"LEASECAP_HOME": str(prefix / "root"), "LEASECAP_STORE": "redis://127.0.0.1:1/0"}
    done = subprocess.run(
        [sys.executable, "-c", f"{without}; import leasecap; leasecap.acquire('p')"],
        env={**os.environ, **server},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stderr.splitlines()
    assert "redis-py, which isn't installed" in said[-2] and said[-1] == "pipx inject leasecap redis"
