from __future__ import annotations

from collections.abc import Callable

import pytest
from places import PLATFORM

from leasecap._host.descriptors import raise_descriptor_limit

if PLATFORM == "win32":
    pytest.skip("Windows has no such limit", allow_module_level=True)

import resource

INFINITE = resource.RLIM_INFINITY


class System:
    """What allows soft limits up to ``most``."""

    def __init__(self, soft: int, hard: int, most: int) -> None:
        self.limits = soft, hard
        self.most = most

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limits

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        if limits[0] > self.most:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int, int], System]:
    def make(soft: int, hard: int, most: int) -> System:
        made = System(soft, hard, most)
        monkeypatch.setattr(resource, "getrlimit", made.get)
        monkeypatch.setattr(resource, "setrlimit", made.set)
        return made

    return make


@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [
        (1024, 4096, 4096, 4096),
        (1024, 1048576, 1048576, 65536),
        (256, INFINITE, 2**40, 65536),
        (256, INFINITE, 10240, 10240),
        (256, INFINITE, 1000, 256),
        (100000, 1048576, 1048576, 100000),
        (20000, INFINITE, 10240, 20000),
        (INFINITE, INFINITE, 0, INFINITE),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_makes_sense(
    soft: int, hard: int, most: int, raised: int, system: Callable[[int, int, int], System]
) -> None:
    made = system(soft, hard, most)
    assert raise_descriptor_limit() == soft
    assert made.limits == (raised, hard)


def test_this_process_gets_what_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert raise_descriptor_limit() == before[0]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert hard == before[1]
        assert soft >= before[0] or soft == INFINITE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
