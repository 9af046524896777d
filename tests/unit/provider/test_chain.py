"""Which of several gates meters."""

from __future__ import annotations

import pytest

from leasecap._provider.chain import VARIABLE, describe, metered_nearer, metered_places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


OUTER = {VARIABLE: describe("127.0.0.1:5000", {"anthropic": "/root/p-1", "openai": "/root/q-2"})}


def nearer(path: str = "/TOKEN/anthropic", *, port: int = 5000, environ: Mapping[str, str] = OUTER) -> str | None:
    return metered_nearer(f"127.0.0.1:{port}", path, environ)


def test_gate_ahead_meters_in_its_pool() -> None:
    assert nearer() == "/root/p-1"
    assert nearer("/TOKEN/openai/more") == "/root/q-2"
    assert metered_places(OUTER) == {"/root/p-1", "/root/q-2"}


def test_other_server_is_no_gate_ahead() -> None:
    assert nearer(port=5001) is None
    assert nearer("/TOKEN/gemini") is None
    assert nearer(environ={}) is None


@pytest.mark.parametrize("value", ["", "{", "[]", "1", "null", '{"address": 1}', '{"address": "127.0.0.1:5000"}'])
def test_word_that_cannot_be_read_is_no_gate(value: str) -> None:
    assert nearer(environ={VARIABLE: value}) is None
    assert metered_places({VARIABLE: value}) == frozenset()


def test_path_without_a_name_is_no_gate() -> None:
    assert nearer("") is None
    assert nearer("/x") is None
