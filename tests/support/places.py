"""Where things are in the checkout, and what a test's processes can import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = REPOSITORY / "tests"
WORKERS = TESTS / "support" / "workers"
IMPORTABLE = os.pathsep.join(map(str, (REPOSITORY, TESTS / "support", TESTS / "proof", WORKERS)))
"""For PYTHONPATH."""

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

PLATFORM: str = getattr(sys, "leasecap_platform", sys.platform)
"""What leasecap's own code takes this for (`personality`)."""
