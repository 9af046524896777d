"""Which of several gates meters."""

from __future__ import annotations

import pytest

from leasecap._gate.chain import VARIABLE, describe, is_metered_nearer, metered_nearer, metered_places
from leasecap._gate.upstreams import Upstream

OUTER = {VARIABLE: describe("127.0.0.1:5000", {"anthropic": "/root/p-1", "openai": "/root/q-2"})}


def upstream(path: str = "/TOKEN/anthropic", port: int = 5000) -> Upstream:
    return Upstream("anthropic", "http", "127.0.0.1", port, path)


def test_gate_ahead_meters_in_its_pool() -> None:
    assert metered_nearer(upstream(), OUTER) == "/root/p-1"
    assert metered_nearer(upstream("/TOKEN/openai/more"), OUTER) == "/root/q-2"
    assert is_metered_nearer(upstream(), "/root/p-1", OUTER)
    assert not is_metered_nearer(upstream(), "/root/q-2", OUTER)
    assert metered_places(OUTER) == {"/root/p-1", "/root/q-2"}


def test_other_server_is_no_gate_ahead() -> None:
    assert metered_nearer(upstream(port=5001), OUTER) is None
    assert metered_nearer(upstream("/TOKEN/gemini"), OUTER) is None
    assert metered_nearer(upstream(), {}) is None


@pytest.mark.parametrize("value", ["", "{", "[]", "1", "null", '{"address": 1}', '{"address": "127.0.0.1:5000"}'])
def test_word_that_cannot_be_read_is_no_gate(value: str) -> None:
    assert metered_nearer(upstream(), {VARIABLE: value}) is None
    assert metered_places({VARIABLE: value}) == frozenset()


def test_path_without_a_name_is_no_gate() -> None:
    assert metered_nearer(upstream(""), OUTER) is None
    assert metered_nearer(upstream("/x"), OUTER) is None
