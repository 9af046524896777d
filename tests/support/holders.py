"""Workers that take and give back a slot of the pool "p" at a word of the test."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team, Worker

# Takes a slot when told, says so, and gives it back when told.
HOLD = """
name, timeout = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else None
log = Log()
say("READY")
hear()
try:
    lease = leasecap.acquire("p", timeout=timeout, on_lost=lambda lease: say("LOST", lease.held))
except leasecap.AcquireTimeout:
    say("TIMEOUT")
    sys.exit()
log.start(name)
say("HELD")
hear()
log.end(name)
lease.release()
say("RELEASED", bool(lease.lost))
hear()
"""

# Says INSIDE, and waits, when it is inside the pool's lock for the first time and is about to look who holds a slot.
ABOUT_TO_LOOK = """
from leasecap._file_store.snapshots import Snapshots
places = Snapshots._places
def slow_places(self):
    Snapshots._places = places
    say("INSIDE")
    hear()
    return places(self)
Snapshots._places = slow_places
"""

# The same in its first acquire.
INSIDE = f"""{ABOUT_TO_LOOK}
leasecap.acquire("p")
say("HELD")
"""

# Stops for a word with the test when it is about to take up its grant, as a process that is given no processor does.
SLOW_TO_TAKE_UP = """
from leasecap._file_store import entries
acknowledge = entries.Entries.acknowledge
def slow_acknowledge(self, own_entry):
    try:
        self.directory.stat(f"granted/{own_entry.name}")
    except OSError:
        return False
    say("GRANTED")
    hear()
    return acknowledge(self, own_entry)
entries.Entries.acknowledge = slow_acknowledge
"""

TRY = """
say("READY")
hear()
lease = leasecap.try_acquire("p")
say("GOT", lease is not None)
if lease is not None:
    lease.release()
"""

# Takes a slot over and over: arguments are a name, rounds, seconds of each hold, and how many begin before one ends.
LOOP = """
name, rounds, hold = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
together = int(sys.argv[4]) if len(sys.argv) > 4 else 0
log = Log()
say("READY")
hear()
for number in range(rounds):
    with leasecap.slot("p"):
        log.start(f"{name}.{number}")
        log.until_began(together)
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


def configure(team: Team, lock: str = "", limit: int = 1, more: str = "") -> None:
    team.configure(f'[pools.p]\nlimit = {limit}\nlock = "{lock or team.store.lock}"\n{more}')


def ready(*workers: Worker) -> None:
    for worker in workers:
        worker.expect("READY")


def hold(worker: Worker) -> None:
    worker.tell()
    worker.expect("HELD")


def queue(team: Team, *workers: Worker, behind: int = 0) -> None:
    """Let them queue in this order."""
    for number, worker in enumerate(workers, behind + 1):
        worker.tell()
        team.until_waiting(number)


def give_back(worker: Worker) -> None:
    worker.tell()
    assert worker.expect("RELEASED") == "False"


def can_be_had(team: Team) -> bool:
    """Whether a slot is free for a process that has just come."""
    trier = team.start(TRY)
    ready(trier)
    trier.tell()
    answer = trier.expect("GOT") == "True"
    trier.done()
    return answer
