"""leasecap with all of feedback switched on, in a pool whose limit was reduced: what that adds to an acquire."""

from __future__ import annotations

import os

import leasecap

from . import leasecap as plain

SETTINGS = """[pools.bench]
limit = 9
cooldown = 0.0005           # so that the slots never run out, and every mark is used again
stagger_after_idle = "1h"
latency_guard = true
usage_command = ["true"]    # never asked: a slot is always left
"""


class Chosen(plain.Chosen):
    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        """Switch it on, and report once."""
        root = os.path.join(directory, "root")
        os.mkdir(root, 0o700)
        with open(os.path.join(root, "config.toml"), "w", encoding="utf-8") as file:
            file.write(SETTINGS)
        os.environ["LEASECAP_HOME"] = root
        leasecap.report("bench", 429, ttfb=1.0)

    def acquire(self) -> None:
        self._lease = leasecap.acquire("bench")
