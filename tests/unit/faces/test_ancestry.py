from __future__ import annotations

import contextvars
import os
from pathlib import Path

import leasecap
from leasecap import _ancestry
from leasecap._decisions.entry import Entry, parse_entry
from leasecap._decisions.places import LEASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def entry_of(root: Path, lease: leasecap.Lease) -> Entry:
    (place,) = root.glob(f"pools/*/{LEASES}/*-{lease.id}-*")
    return parse_entry(place.name)


def test_who_was_handed_a_part_of_the_chain_alone_names_the_whole(root: Path) -> None:
    # Its lender may end first; it must then move to the next lender, and not past it, which would raise the load.
    with leasecap.slot("p", limit=1) as first, leasecap.slot("p") as second, leasecap.slot("p") as third:

        def elsewhere() -> leasecap.Lease:
            _ancestry.enter(first.reference)
            _ancestry.enter(third.reference)
            return leasecap.acquire("p", timeout=5)

        lease = contextvars.Context().run(elsewhere)
        assert entry_of(root, lease).ancestors == (third.id, second.id, first.id)
        lease.release()


def test_leases_that_ended_are_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = leasecap.acquire("p", limit=2)
    monkeypatch.setenv(_ancestry.ENVIRONMENT, first.reference)
    second = leasecap.acquire("p")
    assert entry_of(root, second).ancestors == (first.id,)
    first.release()  # named by the second one, still
    monkeypatch.setenv(_ancestry.ENVIRONMENT, os.pathsep.join((second.reference, first.reference)))
    third = leasecap.acquire("p")
    assert entry_of(root, third).ancestors == (second.id,)
    third.release()
    second.release()


def test_leases_of_other_pools_and_roots_are_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leasecap.slot("p", limit=2) as outer, leasecap.slot("another", limit=1) as other:
        strange = outer.reference.replace(str(root), "/elsewhere")
        monkeypatch.setenv(_ancestry.ENVIRONMENT, os.pathsep.join((strange, other.reference, "nonsense", "")))
        lease = contextvars.Context().run(leasecap.acquire, "p", timeout=5)
        assert entry_of(root, lease).ancestors == ()
        lease.release()


def test_without_borrowing_no_ancestor_is_named(root: Path) -> None:
    with leasecap.slot("p", limit=2) as outer:
        lease = leasecap.acquire("p", borrow=False)
        assert entry_of(root, lease).ancestors == ()
        assert entry_of(root, outer).ancestors == ()
        lease.release()


def test_a_root_with_a_path_separator_in_its_name_is_one_entry_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / f"a{os.pathsep}b%3A"
    monkeypatch.setenv("LEASECAP_HOME", str(home))
    with leasecap.slot("p", limit=1) as outer:
        monkeypatch.setenv(_ancestry.ENVIRONMENT, outer.env()[_ancestry.ENVIRONMENT])
        lease = contextvars.Context().run(leasecap.acquire, "p", timeout=5)
        assert entry_of(home, lease).ancestors == (outer.id,)
        lease.release()


def test_a_lease_of_a_server_is_known_by_the_servers_url(monkeypatch: pytest.MonkeyPatch) -> None:
    store = "redis+sentinel://a:26379,b:26379/main/0?prefix=team"
    first, other = _ancestry.reference(store, "p-1", "t1"), _ancestry.reference(store.replace("/0", "/1"), "p-1", "t2")
    monkeypatch.setenv(_ancestry.ENVIRONMENT, os.pathsep.join((first, other, _ancestry.reference("/tmp", "p-1", "t3"))))
    assert _ancestry.tokens(store, "p-1") == ("t1",)
    assert _ancestry.tokens("/tmp", "p-1") == ("t3",)
