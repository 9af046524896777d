"""leasecap where named pipes are refused, as by a sandbox: waiters are woken by a file that watchdog watches."""

from __future__ import annotations

import os
from typing import NoReturn

from . import leasecap as plain


def _refuse(path: str, *_: object, **__: object) -> NoReturn:
    raise PermissionError(1, "Operation not permitted", path)


class Chosen(plain.Chosen):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        os.mkfifo = _refuse  # type: ignore[assignment]
