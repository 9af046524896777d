"""What `leasecap.status` counts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from staged_world import entry

from leasecap._config.pool_name import pool_name
from leasecap._decisions.entry import Group
from leasecap._decisions.snapshot import Snapshot
from leasecap._status.read import _pool
from leasecap._store.picture import EntryPicture, LatencyPicture, PoolPicture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

LENDER, FIRST, SECOND, NESTED = entry(1), entry(2, 1), entry(3, 1), entry(4, 2, 1)


@pytest.mark.parametrize(
    ("living", "dead", "counts"),
    [
        ((LENDER, FIRST), (), (1, 0)),
        ((LENDER,), (FIRST,), (1, 0)),
        ((FIRST,), (LENDER,), (1, 0)),
        ((), (LENDER, FIRST), (1, 1)),
        ((NESTED,), (LENDER, FIRST), (1, 0)),
        ((FIRST,), (LENDER, SECOND), (2, 1)),
        ((LENDER, FIRST), (SECOND,), (2, 1)),
        ((FIRST, SECOND), (LENDER,), (2, 0)),
        ((entry(5),), (LENDER, entry(6)), (3, 2)),
    ],
)
def test_as_slots_of_the_dead_count_those_that_come_free_once_they_are_reaped(
    living: tuple[Entry, ...], dead: tuple[Entry, ...], counts: tuple[int, int]
) -> None:
    leases = [
        EntryPicture(one, "held", None, None, one in living, "a test says so", False, None, None, 0.0)
        for one in (*living, *dead)
    ]
    snapshot = Snapshot(9, leases=Group.of((*living, *dead)))
    nothing = LatencyPicture({}, ())
    picture = PoolPicture("/root/pools/p", "os", True, snapshot, tuple(leases), (), (), None, None, nothing)
    found = _pool(pool_name("p"), picture, None, datetime.now(UTC))
    assert (found.in_flight, found.dead_slots) == counts
