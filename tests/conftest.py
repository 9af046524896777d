"""A root of its own for every test, whatever the developer's environment says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A machine that many share makes any single example slow at times; pytest-timeout guards against hanging.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's processes keep their pools; not created yet."""
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "root"
    monkeypatch.setenv("LEASECAP_HOME", str(path))
    return path
