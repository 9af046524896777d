"""Under whose leases a request that comes to a gate runs."""

from __future__ import annotations

import pytest
from holders import HOLD, give_back, hold, ready

from leasecap._gate import asker
from leasecap._host.process import start_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


@pytest.mark.parametrize("is_older", [False, True], ids=["the holder", "one that had its pid before"])
def test_request_borrows_the_slot_of_its_own_process(
    team: Team, monkeypatch: pytest.MonkeyPatch, is_older: bool
) -> None:
    """A connection may stay open for days, and what was found of the processes above its own is kept for as long."""
    team.configure("[pools.p]\nlimit = 1\n")
    holder = team.start(HOLD, "holder")
    ready(holder)

    def started(pid: int) -> int | None:
        found = start_of(pid)
        return found - 1 if is_older and found is not None and pid == holder.pid else found

    monkeypatch.setattr(asker, "peer_inode", lambda peer, local: 1)
    monkeypatch.setattr(asker, "pids_of_socket", lambda inode: [holder.pid])
    monkeypatch.setattr(asker, "start_of", started)
    asks = asker.Asker(("127.0.0.1", 1), ("127.0.0.1", 2))
    hold(holder)
    assert len(asks._leases("p")) == (not is_older)
    give_back(holder)
    holder.tell()
    holder.done()
