"""All ways to ask for a slot from Python."""

from __future__ import annotations

import asyncio

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap import Lease


def everywhere() -> list[Callable[..., object]]:
    """The same arguments go into all of these."""

    async def acquire_async(**options: Any) -> Lease:
        return await leasecap.acquire_async("p", **options)

    async def slot_async(**options: Any) -> None:
        async with leasecap.slot("p", **options):
            pass

    def slot(**options: Any) -> None:
        with leasecap.slot("p", **options):
            pass

    return [
        lambda **options: leasecap.acquire("p", **options),
        lambda **options: asyncio.run(acquire_async(**options)),
        slot,
        lambda **options: asyncio.run(slot_async(**options)),
        lambda **options: leasecap.limited("p", **options)(lambda: None)(),
    ]
