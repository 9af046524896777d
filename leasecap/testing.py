"""A pytest fixture for those who test code that uses leasecap.

Installed as a pytest plugin: name the fixture in a test, and whatever the test acquires is in a root of its own::

    def test_my_agent(leasecap_root):
        with leasecap.slot("anthropic", limit=2):
            ...
"""

from __future__ import annotations

import os

import pytest

from leasecap._config.root import root_path
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def leasecap_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A root of the test's own, for this process and those it starts: no configuration, no server, nobody's leases.

    Write ``config.toml`` into it to set limits. A limit above 1 counts once the file has been the same for a second;
    ``leasecap limit`` and ``limit=`` count at once. The environment variables that leasecap reads are unset.
    """
    root = tmp_path / "leasecap-root"
    root.mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEASECAP_HOME", str(root))
    path = root_path()
    yield root
    from leasecap._latency import latencies

    latencies.end()
    runtime.close(path)
