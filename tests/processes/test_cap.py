"""The cap, and who is next: many processes, judged by the intervals in which they held a slot."""

from __future__ import annotations

from holders import SLOW_TO_TAKE_UP
from referee import Interval, Team, peak

TYPE_CHECKING = False

# Takes a slot over and over: arguments are a name, rounds, and seconds of each hold.
LOOP = """
name, rounds, hold = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
log = Log()
say("READY")
hear()
for number in range(rounds):
    with leasecap.slot("p"):
        log.start(f"{name}.{number}")
        time.sleep(hold)
        log.end(f"{name}.{number}")
"""

# Takes one slot with a priority when told, and gives it back at once, or when told if there is a third argument.
ONCE = """
name, priority, keep = sys.argv[1], int(sys.argv[2]), len(sys.argv) > 3
log = Log()
say("READY")
hear()
with leasecap.slot("p", priority=priority):
    log.start(name)
    if keep:
        say("HELD")
        hear()
    log.end(name)
"""


def test_the_referee_counts_overlaps_and_not_neighbours() -> None:
    apart = [Interval("a", 0, 5), Interval("b", 5, 9)]
    assert peak(apart) == 1
    assert peak([*apart, Interval("c", 4, 6), Interval("d", 3, 5)]) == 3
    assert peak([]) == 0


def test_forty_processes_fill_the_cap_and_never_exceed_it(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 3\nlock = "{lock}"\n')
    workers = [team.start(LOOP, name, 3, 0.01) for name in range(40)]
    for worker in workers:
        worker.expect("READY")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.done()
    assert len(team.referee.intervals()) == 120
    assert team.referee.peak() == 3
    assert team.pool().lock == lock
    team.assert_idle()


def test_higher_priorities_go_first_and_equal_ones_in_order_of_arrival(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder = team.start(ONCE, "holder", 0, "keep")
    priorities = [0, -5, 7, 0, 99, 7, -99, 0]
    waiters = [team.start(ONCE, number, priority) for number, priority in enumerate(priorities)]
    for worker in (holder, *waiters):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    for number, waiter in enumerate(waiters, 1):
        waiter.tell()
        team.until_waiting(number)
    holder.tell()
    for worker in (holder, *waiters):
        worker.done()
    fair = sorted(range(len(priorities)), key=lambda number: (-priorities[number], number))
    assert team.referee.order() == ["holder", *map(str, fair)]
    assert team.referee.peak() == 1
    team.assert_idle()


def test_a_newcomer_does_not_overtake_a_head_that_runs_and_has_not_taken_up_its_slot_yet(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head = team.start(ONCE, "holder", 0, "keep"), team.start(SLOW_TO_TAKE_UP + ONCE, "head", 0, "keep")
    newcomer = team.start('say("READY"); hear(); say("GOT", leasecap.try_acquire("p")); hear()')
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    killed = holder.kill()
    head.expect("GRANTED")
    newcomer.tell()
    assert newcomer.expect("GOT") == "None"
    head.tell()
    head.expect("HELD")
    head.tell()
    head.done()
    newcomer.tell()
    newcomer.done()
    assert team.referee.peak({"holder": killed}) == 1
    team.assert_idle()


def test_a_newcomer_overtakes_a_head_that_is_stopped(team: Team, lock: str) -> None:
    """Promise 3 is to the first that lives *and runs*; who is stopped keeps its place."""
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head, newcomer = (team.start(ONCE, name, 0, "keep") for name in ("holder", "head", "newcomer"))
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    team.stop_outside(head)
    killed = holder.kill()
    newcomer.tell()
    newcomer.expect("HELD")
    assert [waiter.pid for waiter in team.pool().waiters] == [head.pid]
    head.go_on()
    newcomer.tell()
    head.expect("HELD")
    head.tell()
    for worker in (newcomer, head):
        worker.done()
    assert team.referee.peak({"holder": killed}) == 1
    team.assert_idle()


# Stops for a word with the test when it is inside the pool's lock for the first time.
INSIDE = """
from leasecap._file_store.snapshots import Snapshots
snapshot = Snapshots.take_with
def slow_snapshot(self, view):
    Snapshots.take_with = snapshot
    say("INSIDE")
    hear()
    return snapshot(self, view)
Snapshots.take_with = slow_snapshot
"""


def test_a_newcomer_who_alone_sees_the_free_slot_gives_it_to_the_head(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nlock = "{lock}"\n')
    holder, head = (team.start(ONCE, name, 0, "keep") for name in ("holder", "head"))
    newcomer = team.start(INSIDE + 'say("READY"); hear(); say("GOT", leasecap.try_acquire("p")); hear()')
    for worker in (holder, head, newcomer):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    head.tell()
    team.until_waiting(1)
    newcomer.tell()
    newcomer.expect("INSIDE")
    # A release doesn't wait for the pool's lock, and leaves the hand-off to whoever has it.
    holder.tell()
    holder.done()
    newcomer.tell()
    assert newcomer.expect("GOT") == "None"
    head.expect("HELD")
    head.tell()
    head.done()
    assert team.referee.order() == ["holder", "head"]


def test_those_who_only_try_never_exceed_the_cap(team: Team, lock: str) -> None:
    team.configure(f'[pools.p]\nlimit = 2\nlock = "{lock}"\n')
    # Nobody queues, so everybody grants to itself: this leans on the pool's lock alone.
    workers = [
        team.start(
            """
name, log = sys.argv[1], Log()
say("READY")
hear()
number = 0
while number < 15:
    lease = leasecap.try_acquire("p")
    if lease is not None:
        number += 1
        log.start(f"{name}.{number}")
        time.sleep(0.002)
        log.end(f"{name}.{number}")
        lease.release()
""",
            name,
        )
        for name in range(6)
    ]
    for worker in workers:
        worker.expect("READY")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.done()
    assert team.referee.peak() == 2
    team.assert_idle()


def test_a_stream_of_newcomers_never_passes_those_who_wait(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")
    holder = team.start(ONCE, "holder", 0, "keep")
    # Tries again and again from before the queue forms until after it has gone, with no wait and no place in it.
    barger = team.start(
        """
log = Log()
say("READY")
hear()
seen = got = 0
while got < 3:
    before = leasecap.status("p").pools[0].waiters
    lease = leasecap.try_acquire("p")
    if lease is None:
        continue
    got += 1
    log.start(f"barger.{got}")
    after = leasecap.status("p").pools[0].waiters
    # Whoever waited before the try and waits after the slot was got, was passed.
    seen += len({waiter.id for waiter in before} & {waiter.id for waiter in after})
    log.end(f"barger.{got}")
    lease.release()
say("PASSED", seen)
"""
    )
    waiters = [team.start(LOOP, number, 4, 0.002) for number in range(6)]
    for worker in (holder, barger, *waiters):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    barger.tell()
    for waiter in waiters:
        waiter.tell()
    team.until_waiting(6)
    holder.tell()
    assert barger.expect("PASSED") == "0"
    for worker in (holder, barger, *waiters):
        worker.done()
    assert team.referee.peak() == 1
    team.assert_idle()
