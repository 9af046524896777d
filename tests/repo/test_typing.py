"""What type checkers need is there; `scripts/lint` checks `typing_consumer.py` with one."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import leasecap
import leasecap.httpx
import leasecap.httpx2
from leasecap import Lease

PACKAGE = Path(leasecap.__file__).parent
CONSUMER = Path(__file__).with_name("typing_consumer.py")


def used(tree: ast.Module) -> set[str]:
    """The public names that the consumer uses, and the attributes of anything."""
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return names.union(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_every_public_name_is_put_to_use_by_the_typed_consumer() -> None:
    assert set(leasecap.__all__) - used(ast.parse(CONSUMER.read_text())) == set()


@pytest.mark.parametrize("module", [leasecap.httpx, leasecap.httpx2])
def test_every_public_name_of_the_transports_is_put_to_use(module: ModuleType) -> None:
    assert set(module.__all__) - used(ast.parse(CONSUMER.read_text())) == set()


def test_everything_public_about_a_lease_is_documented() -> None:
    documented = (Lease.__doc__ or "") + (Lease.release.__doc__ or "")
    for name in ("pool", "id", "lost", "reference"):
        assert f":ivar {name}:" in documented
    for name, member in vars(Lease).items():
        if not name.startswith("_"):
            assert member.__doc__, name


def test_the_consumer_can_be_imported() -> None:
    compile(CONSUMER.read_text(), str(CONSUMER), "exec")
