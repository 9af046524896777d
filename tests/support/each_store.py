"""The stores that a contract test runs on, for `parametrize`."""

from __future__ import annotations

import pytest
from stores import DIRECTORY, FILES, MEMORY

REDIS = pytest.param("redis", marks=pytest.mark.redis)
VALKEY = pytest.param("valkey", marks=[pytest.mark.redis, pytest.mark.long])
STORES = [FILES, REDIS]

WITH_LOCKS = pytest.mark.parametrize("store", [DIRECTORY, *STORES], indirect=True)
"""Also in files with a lock directory."""

IN_PROCESS = pytest.mark.parametrize(
    "store",
    [*(pytest.param(kind, marks=pytest.mark.unit) for kind in (FILES, MEMORY)), REDIS, VALKEY],
    indirect=True,
)
"""A test that starts no process: on files and in memory it is a unit test."""

ON_A_SERVER = pytest.mark.parametrize("store", [REDIS], indirect=True)
