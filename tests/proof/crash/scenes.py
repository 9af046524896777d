"""What the victim does when it is struck, with whom around."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from insides import own_entry_of, store_of

from leasecap._decisions import grants
from leasecap._host.process import start_of
from leasecap._liveness.record import PENDING, Child
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import leasecap
    from crash.puppets import Victim
    from crash.stage import Stage


@dataclass(frozen=True)
class Scene:
    """One operation.

    :ivar limit: of the pool.
    :ivar declared: the limit that the victim declares.
    :ivar first_limit: where the script changes it, what it was before.
    :ivar prepare: what the puppets do before.
    :ivar script: what the victim does.
    :ivar puppets: who is around.
    :ivar mortals: those who are killed, each by its name and the effect before which it is.
    """

    name: str
    limit: int
    script: Callable[[Victim], object]
    puppets: tuple[str, ...] = ()
    prepare: Callable[[Stage], object] = lambda stage: None
    mortals: tuple[tuple[str, str], ...] = ()
    first_limit: int | None = None
    declared: int | None = None


def _acquired(me: Victim) -> leasecap.Lease:
    lease = me.acquire()
    assert lease is not None
    return lease


def _begin(*names: str) -> Callable[[Stage], object]:
    return lambda stage: [stage.puppets[name].order("begin") for name in names]


def _first_use(me: Victim) -> None:
    me.arm()
    me.work(me.acquire())


def _uncontended(me: Victim) -> None:
    me.open_pool()
    me.arm()
    me.work(me.acquire())


def _once_more(me: Victim) -> None:
    # By now it has the directory of an earlier lease left, to use again.
    for _ in range(3):
        me.work(me.acquire())
    me.arm()
    me.work(me.acquire())


def _receive(me: Victim) -> None:
    me.open_pool()
    me.arm()
    me.work(me.acquire(me.order("holder", "go")))


def _give(me: Victim) -> None:
    lease = _acquired(me)
    for name in ("waiter", "second"):
        me.order(name, "begin")()
    with me.working():
        pass
    me.arm()
    lease.release()


def _withdraw(me: Victim) -> None:
    me.open_pool()
    me.arm()
    me.work(me.acquire(timeout=0.002))


def _withdraw_a_limit(me: Victim) -> None:
    me.open_pool()
    me.arm()
    # What it declares keeps the waiter out, until it withdraws.
    me.work(me.acquire(me.order("waiter", "begin"), timeout=0.002, limit=1))


def _withdraw_too_late(me: Victim) -> None:
    me.open_pool()
    me.arm()
    me.before("rename queue/ENTRY trash/ENTRY", me.order("holder", "go"))
    me.work(me.acquire(timeout=0.002))


def _try(me: Victim) -> None:
    me.open_pool()
    me.arm()
    me.work(me.acquire(timeout=0))


def _bury(stage: Stage) -> None:
    for name in ("first", "second", "ticket"):
        stage.puppets[name].order("begin")
    for name in ("first", "second", "ticket"):
        stage.kill(name)
    stage.lose("staged")


def _take_back(me: Victim) -> None:
    me.open_pool()
    me.arm()
    # The waiter, which is ahead, is granted the slot and doesn't look.
    late = grants.ACKNOWLEDGE_WITHIN * 0.45
    me.work(me.acquire(me.order("holder", "go"), *[me.skip(late)] * 3, me.order("waiter", "go")))


def _parked(me: Victim) -> None:
    me.open_pool()
    me.arm()
    late = grants.ACKNOWLEDGE_WITHIN * 0.45

    def meanwhile() -> None:
        # Granted, the victim doesn't look; the waiter behind it sees that and gets the slot.
        me.order("waiter", "begin")()
        me.order("holder", "go")()
        for _ in range(4):
            me.order("waiter", "look", late)()

    me.work(me.acquire(meanwhile, me.order("waiter", "go")))


def _nested(me: Victim) -> None:
    me.open_pool()
    me.arm()
    with _acquired(me) as outer:
        me.order("waiter", "begin")()
        with me.working():
            pass
        with _acquired(me), _acquired(me), me.working():
            pass
        with me.working():
            pass
        assert not outer.lost


def _beat(me: Victim) -> None:
    lease = _acquired(me)
    me.arm()
    with me.working():
        assert store_of(lease).beat(own_entry_of(lease))
    lease.release()


def _run_a_command(me: Victim) -> None:
    lease = _acquired(me)
    me.arm()
    with me.working():
        lease.note_child(PENDING)
        inherited = () if lease.liveness_fd is None else (lease.liveness_fd,)
        with subprocess.Popen(["sleep", "60"], pass_fds=inherited) as command:
            me.report("command", command.pid)
            lease.note_child(Child(command.pid, start_of(command.pid) or 0))
            command.kill()
            command.wait()
            me.report("no command")
    lease.release()


def _hand_over(me: Victim) -> None:
    lease = _acquired(me)
    keeper = me.puppets["keeper"].pid
    me.arm()
    lease.hand_to(keeper, start_of(keeper) or 0)


def _raise_the_limit(me: Victim) -> None:
    me.open_pool()
    root = runtime.root(os.environ["LEASECAP_HOME"])
    path = Path(root.config.path)
    path.write_text(path.read_text().replace("limit = 1", "limit = 2"))
    name = root.config.pool("p").name
    me.arm()
    root.refresh()
    runtime.restore(root, name)


SCENES = (
    Scene("first use of a pool", 1, _first_use),
    Scene("acquire and release", 2, _uncontended, ("other",), _begin("other")),
    Scene("acquire once more", 2, _once_more, ("other",), _begin("other")),
    Scene("queue and receive", 1, _receive, ("holder",), _begin("holder")),
    Scene("release and hand on", 1, _give, ("waiter", "second")),
    Scene("withdraw", 1, _withdraw, ("holder",), _begin("holder")),
    Scene("withdraw a declared limit", 2, _withdraw_a_limit, ("holder", "waiter"), _begin("holder"), declared=1),
    Scene("withdraw when just granted", 1, _withdraw_too_late, ("holder",), _begin("holder")),
    Scene(
        "sweep the dead", 2, _try, ("first", "second", "ticket"), _bury,
        mortals=(("staged", "write staging/ENTRY/info.json"),),
    ),
    Scene(
        "find one dead inside", 1, _try, (), lambda stage: stage.lose("inside"),
        mortals=(("inside", "rename staging/ENTRY leases/ENTRY"),),
    ),
    Scene("take back a grant", 1, _take_back, ("holder", "waiter"), _begin("holder", "waiter")),
    Scene("find itself parked", 1, _parked, ("holder", "waiter"), _begin("holder")),
    Scene("borrow three deep", 1, _nested, ("waiter",)),
    Scene("heartbeat", 1, _beat),
    Scene("run a command", 1, _run_a_command),
    Scene("hand to another process", 1, _hand_over, ("keeper",)),
    Scene("raise the limit", 2, _raise_the_limit, ("holder", "waiter"), _begin("holder", "waiter"), first_limit=1),
)  # fmt: skip
