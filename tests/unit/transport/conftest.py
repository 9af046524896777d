"""Each test of this folder that asks for ``face`` runs with both libraries."""

from __future__ import annotations

from importlib import import_module

import pytest
from provider import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from leasecap._lease import Lease

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> Any:
    """The HTTP library."""
    return import_module(str(request.param))


@pytest.fixture
def face(library: Any) -> Any:
    """leasecap's module for it."""
    return import_module(f"leasecap.{library.__name__}")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What leases tell their pools in this test, which then learn nothing of it."""
    told: list[dict[str, object]] = []

    def report(lease: Lease, status: int | None = None, **more: object) -> None:
        told.append({"status": status} | {name: value for name, value in more.items() if value is not None})

    monkeypatch.setattr("leasecap._lease.Lease.tell", report)
    return told
