"""Gates for the tests of the gate; how late the machine is. A module has a gate of another kind by giving the name
``gate`` to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gated import Gated
from pace import Pace
from provider import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gate_inside import GateInside
    from raw_http import Raw


@pytest.fixture
def pace() -> Iterator[Pace]:
    with Pace() as pace:
        yield pace


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def gate(provider: Provider) -> Iterator[Gated]:
    """That of a command; its limit is 1."""
    with Gated(provider) as gate:
        yield gate


@pytest.fixture
def gate_inside(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[GateInside]:
    from gate_inside import GateInside  # what it imports can't be imported on Windows

    with GateInside(provider, monkeypatch) as gate:
        yield gate


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Provider, Gated]]:
    """One gate and its provider for all tests of a module; it has a root of its own."""
    root = tmp_path_factory.mktemp("shared") / "root"
    with Provider() as provider, Gated(provider, LEASECAP_HOME=str(root)) as gate:
        yield provider, gate


@pytest.fixture
def shared_provider(shared: tuple[Provider, Gated]) -> Provider:
    """As if it were new."""
    shared[0].clear()
    return shared[0]


@pytest.fixture
def client(gate: Gated) -> Iterator[Raw]:
    with gate.connect() as client:
        yield client
