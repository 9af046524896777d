"""Whatever happens to processes, clocks, machines and records, in any order: the cap, no leak, the order, no theft."""

from __future__ import annotations

import pytest
from histories import LONG, Machines
from hypothesis.stateful import run_state_machine_as_test


class MachinesWithLockDirectory(Machines):
    kind = "directory"
    kernels = (0, 1, 0, 2)


@pytest.mark.long
@pytest.mark.timeout(300)  # 8 s of processor time, of which a busy machine may give it little
@pytest.mark.parametrize("machines", [Machines, MachinesWithLockDirectory])
def test_no_history_breaks_a_promise(machines: type[Machines], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leasecap._log.sink", lambda message: None)  # what is told after a process's death
    run_state_machine_as_test(machines, settings=LONG)
