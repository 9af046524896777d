"""A pool that a server keeps is never taken for one in files."""

from __future__ import annotations

from pathlib import Path

import pytest

import leasecap
from leasecap._errors import StoreError

STORE = "redis://me:hidden@127.0.0.1:1/0"


@pytest.mark.parametrize("by", ["pool", "defaults", "environment"])
def test_pool_of_a_server_that_is_away_makes_nothing_in_files(
    root: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir(mode=0o700)
    table = {
        "pool": f'[pools.p]\nlimit = 1\nstore = "{STORE}"\n',
        "defaults": f'[defaults]\nlimit = 1\nstore = "{STORE}"\n',
    }
    (root / "config.toml").write_text(table.get(by, "[defaults]\nlimit = 1\n"))
    if by == "environment":
        monkeypatch.setenv("LEASECAP_STORE", STORE)
    for timeout in (0, 0.3):
        with pytest.raises(StoreError) as caught:
            leasecap.acquire("p", timeout=timeout)
        assert caught.value.path == "redis://me:***@127.0.0.1:1/0"
    assert not list(root.glob("pools/*"))
    [shown] = leasecap.status("p").pools
    assert "redis://me:***@127.0.0.1:1/0" in str(shown.error)
    leasecap.acquire("localhost:8000", timeout=0, limit=1).release()
