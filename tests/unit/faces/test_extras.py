"""The command that adds what is missing is one for the place where leasecap is installed."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from leasecap import _extras
from leasecap._extras import to_install


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment called leasecap, that this Python stands in."""
    prefix = tmp_path / "venvs" / "leasecap"
    prefix.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    for extra in ("httpx", "httpx2", "redis"):
        monkeypatch.setitem(_extras._NEEDED, extra, ("no_such_package", extra))
    monkeypatch.setitem(_extras._NEEDED, "gate", ("os",))
    return prefix


def _stands_in(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this Python stand in the environment at ``prefix``."""
    prefix.mkdir(parents=True)
    monkeypatch.setattr(sys, "prefix", str(prefix))
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


def test_pipx_run_is_given_what_its_next_environment_has(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = _stands_in(prefix.parent.parent / ".cache" / "06ae00e5a2f94a5", monkeypatch)
    (once / "pipx_metadata.json").touch()
    assert to_install("redis") == "pipx run --spec 'leasecap[gate,redis]' leasecap ..."
    assert to_install("socksio") == "pipx run --spec 'leasecap[gate]' --with socksio leasecap ..."


def test_uvx_is_given_what_its_next_environment_has(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = _stands_in(prefix.parent.parent / "archive-v0" / "YHbVYIwfxNERu4Nj", monkeypatch)
    (once / "pyvenv.cfg").write_text("implementation = CPython\nuv = 0.13.9\n")
    assert to_install("redis") == "uvx --from 'leasecap[gate,redis]' leasecap ..."
    assert to_install("socksio") == "uvx --from 'leasecap[gate]' --with socksio leasecap ..."


def test_uv_run_is_given_it_where_leasecap_is_laid_over_an_environment(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = _stands_in(prefix.parent.parent / "builds-v0" / ".tmpqQbiVD", monkeypatch)
    (once / "pyvenv.cfg").write_text("uv = 0.13.9\nextends-environment = /a project/.venv\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # pip is not there
    # What is run --with another package finds leasecap in the environment below.
    assert to_install("redis") == "uv pip install --python '/a project/.venv' 'leasecap[redis]'"
    monkeypatch.setattr(_extras, "__file__", os.path.join(os.sep, "cache", "archive-v0", "oCH", "leasecap", "a.py"))
    assert to_install("redis") == "uv run --with 'leasecap[redis]' ..."
    assert to_install("socksio") == "uv run --with leasecap --with socksio ..."


@pytest.mark.parametrize("pip_is_there", [False, True])
def test_environment_of_uv_has_pip_only_if_somebody_put_it_there(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, pip_is_there: bool
) -> None:
    (prefix / "pyvenv.cfg").write_text("home = /usr/bin\nuv = 0.13.9\n")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: sys if pip_is_there else None)
    pip = "pip install" if pip_is_there else f"uv pip install --python {shlex.quote(str(prefix))}"
    assert to_install("redis") == f"{pip} 'leasecap[redis]'"
    assert to_install("socksio") == f"{pip} socksio"


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
