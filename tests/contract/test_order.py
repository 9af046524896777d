"""The cap, and who is next: many processes, judged by the intervals in which they held a slot."""

from __future__ import annotations

import time

from holders import HOLD, LOOP, ONCE, configure, give_back, hold, queue, ready
from referee import Team, until

TYPE_CHECKING = False

# Takes a slot and gives it back, again and again until it is told to end; in a thread, or in so many tasks.
MANY = """
import asyncio, random, threading
name, tasks = sys.argv[1], int(sys.argv[2])
log, ending = Log(), threading.Event()
threading.Thread(target=lambda: (hear(), ending.set()), daemon=True).start()
say("READY")
async def one(number):
    count = 0
    while not ending.is_set():
        async with leasecap.slot("p", timeout=30):
            log.start(f"{name}-{number}-{count}")
            await asyncio.sleep(random.random() * 0.01)
            log.end(f"{name}-{number}-{count}")
        count += 1
async def main():
    await asyncio.gather(*map(one, range(tasks)))
count = 0
if tasks:
    asyncio.run(main())
while not tasks and not ending.is_set():
    with leasecap.slot("p", timeout=30):
        log.start(f"{name}-{count}")
        time.sleep(random.random() * 0.01)
        log.end(f"{name}-{count}")
    count += 1
say("DONE")
"""


def test_processes_and_tasks_never_exceed_the_cap(team: Team) -> None:
    configure(team, limit=3)
    workers = [team.start(MANY, number, tasks) for number, tasks in enumerate((0, 0, 0, 4, 9))]
    ready(*workers)
    until(lambda: len(team.referee.log.read_text().splitlines()) > 100, "they have worked for a while")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.expect("DONE")
        worker.done()
    assert 1 < team.referee.peak() <= 3
    team.assert_idle()


def test_cap_holds_while_holders_and_waiters_are_killed(team: Team) -> None:
    configure(team, limit=2)
    workers = {number: team.start(MANY, number, 0) for number in range(6)}
    ready(*workers.values())
    killed = {}
    for number in (0, 1, 2):
        until(lambda: team.pool().in_flight == 2, "both slots are taken")
        time.sleep(0.1)  # any moment will do
        killed[number] = workers[number].kill()
    for number in (3, 4, 5):
        workers[number].tell()
    for number in (3, 4, 5):
        workers[number].expect("DONE")
        workers[number].done()
    running = {}
    for line in team.referee.log.read_text().splitlines():
        event, _, holder = line.split(" ", 2)
        running[holder] = event == "start"
    ends = {holder: killed[int(holder.partition("-")[0])] for holder, runs in running.items() if runs}
    assert team.referee.peak(ends) == 2


def test_stopped_waiter_is_passed_over_and_goes_on_in_its_place(team: Team) -> None:
    configure(team)
    workers = [team.start(HOLD, number) for number in range(4)]
    ready(*workers)
    hold(workers[0])
    queue(team, *workers[1:])
    team.stop_outside(workers[1])
    give_back(workers[0])
    workers[2].expect("HELD")  # two seconds later
    workers[1].go_on()
    until(lambda: {found.state for found in team.pool().waiters} == {"waiting"}, "it stands in the queue again")
    give_back(workers[2])
    workers[1].expect("HELD")


def test_higher_priorities_go_first_and_equal_ones_in_order_of_arrival(team: Team) -> None:
    configure(team)
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


def test_those_who_only_try_never_exceed_the_cap(team: Team) -> None:
    configure(team, limit=2)
    # Nobody queues, so everybody grants to itself: this leans on the pool's lock alone.
    workers = [
        team.start(
            """
name, log = sys.argv[1], Log()
say("READY")
hear()
number = 0
while number < 5:
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
        for name in range(4)
    ]
    for worker in workers:
        worker.expect("READY")
    for worker in workers:
        worker.tell()
    for worker in workers:
        worker.done()
    assert team.referee.peak() <= 2
    team.assert_idle()


def test_a_stream_of_newcomers_never_passes_those_who_wait(team: Team) -> None:
    configure(team)
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
    waiters = [team.start(LOOP, number, 2, 0.002) for number in range(4)]
    for worker in (holder, barger, *waiters):
        worker.expect("READY")
    holder.tell()
    holder.expect("HELD")
    barger.tell()
    for waiter in waiters:
        waiter.tell()
    team.until_waiting(4)
    holder.tell()
    assert barger.expect("PASSED") == "0"
    for worker in (holder, barger, *waiters):
        worker.done()
    assert team.referee.peak() == 1
    team.assert_idle()
