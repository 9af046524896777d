"""One process with a pool "here", in files, and one "there", on a server: both at once, and never one for the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import pytest
from commands import PROGRAM, environment, run, status, status_json, until
from each_store import ON_A_SERVER

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team
    from stores import Store

pytestmark = ON_A_SERVER

NOBODY = "redis://127.0.0.1:1/0"
"""Where no server listens."""


@pytest.fixture(autouse=True)
def pools(team: Team) -> None:
    team.configure('[pools.here]\nlimit = 1\nstore = "files"\n[pools.there]\nlimit = 1\n')


def nested(*pools: str) -> list[str]:
    """A command that runs under a lease of each, the first one outermost."""
    return [word for pool in pools for word in (*PROGRAM, "run", "-p", pool, "-n", "--")]


def test_ancestry_spans_both(team: Team) -> None:
    asks = [sys.executable, "-c", "import os; print(*os.environ['LEASECAP_LEASE'].split(os.pathsep), sep='\\n')"]
    done = run(*nested("here", "there", "here", "there")[3:], *asks)
    entries = done.stdout.splitlines()
    assert len(entries) == 4, done.stderr
    assert [entry.rsplit("/", 2)[0] == str(team.root) for entry in entries] == [False, True, False, True]
    with leasecap.slot("here"), leasecap.slot("there"):
        leasecap.acquire("here", timeout=0).release()
        leasecap.acquire("there", timeout=0).release()
        assert leasecap.try_acquire("here", borrow=False) is leasecap.try_acquire("there", borrow=False) is None
    for pool in ("here", "there"):
        assert status(pool).in_flight == 0


def test_status_release_and_doctor_span_both() -> None:
    leases = {pool: leasecap.acquire(pool) for pool in ("here", "there")}
    found = {pool["pool"]: pool["holders"][0]["id"] for pool in status_json()["pools"]}
    assert found == {pool: lease.id for pool, lease in leases.items()}
    shown = run("status").stdout
    assert [len(re.findall(f"^{pool}  1/1 in flight", shown, re.M)) for pool in leases] == [1, 1]
    assert re.search(r"^ok +pools +2 with OS locks and a server, 0 idle; 2 in flight", run("doctor").stdout, re.M)
    for lease in leases.values():
        assert run("release", lease.id, "--yes").returncode == 0
        assert lease.lost.wait(60)
    for pool in leases:
        assert status(pool).in_flight == 0


def test_server_that_is_away_takes_nothing_from_files(team: Team) -> None:
    with leasecap.slot("here", label="a holder"):
        team.configure(f'[pools.here]\nlimit = 1\nstore = "files"\n[pools.away]\nlimit = 1\nstore = "{NOBODY}"\n')
        shown = run("status")
        assert shown.returncode == 1
        assert "here  1/1 in flight" in shown.stdout and "a holder" in shown.stdout
        assert re.search(r"away .*can't be reached", shown.stdout + shown.stderr, re.S)
        done = run("run", "-p", "away", "-n", "--", "true")
        assert done.returncode == 125 and "can't be reached" in done.stderr
        assert run("release", status("here").holders[0].id, "--yes").returncode == 0
        assert run("run", "-p", "here", "-n", "--", "true").returncode == 0


def test_lender_is_looked_for_in_the_borrowers_store_alone(team: Team, store: Store) -> None:
    places = ("files", store.url, f"{store.url}.other", store.url.replace("/0?", "/1?"))
    borrows = (
        "import leasecap; lease = leasecap.acquire('p', timeout=0); "
        "print(leasecap.status('p').pools[0].holders[-1].borrows_from)"
    )
    for outer in places[:2]:
        os.environ["LEASECAP_STORE"] = outer  # `store` puts it back
        team.configure("[pools.p]\nlimit = 1\n")
        with leasecap.acquire("p") as lease:
            for inner in places:
                given = environment(**lease.env(), LEASECAP_STORE=inner)
                done = subprocess.run([sys.executable, "-c", borrows], env=given, capture_output=True, text=True)
                assert done.stdout.strip() == (lease.id if inner == outer else "None"), (outer, inner, done.stderr)


@pytest.mark.parametrize("waits", [False, True], ids=["held", "waited for"])
def test_pool_that_moves_while_it_is_in_use_is_refused(team: Team, store: Store, waits: bool) -> None:
    for here, there in ((store.url, "files"), ("files", store.url), (store.url, store.url.replace("/0?", "/1?"))):
        team.configure(f'[pools.p]\nstore = "{here}"\nlimit = 1\n')
        outside = team.leasecap("run", "-p", "p", "--", "sh", "-c", "echo READY; read line") if waits else None
        if outside is not None:
            outside.expect("READY")
        user = threading.Thread(target=use, args=(done := threading.Event(),))
        user.start()
        until(lambda: status().waiting == 1 if waits else status().in_flight == 1)
        team.configure(f'[pools.p]\nstore = "{there}"\nlimit = 1\n')
        until(is_refused)
        team.configure(f'[pools.p]\nstore = "{here}"\nlimit = 1\n')
        done.set()
        if outside is not None:
            outside.tell()
            outside.done()
        user.join(60)
        team.configure(f'[pools.p]\nstore = "{there}"\nlimit = 1\n')
        leasecap.acquire("p", timeout=0).release()


def is_refused() -> bool:
    """The other thread may have asked its server, and not have heard the answer yet."""
    try:
        lease = leasecap.try_acquire("p", borrow=False)
    except leasecap.ConfigError as error:
        assert "moved to another store" in str(error)
        return True
    if lease is not None:
        lease.release()
    return False


def use(done: threading.Event) -> None:
    """Hold a slot until then."""
    with leasecap.slot("p"):
        done.wait(60)


def test_forked_child_holds_nothing_in_either(team: Team) -> None:
    worker = team.start(
        """
leases = [leasecap.acquire(pool) for pool in ("here", "there")]
pid = os.fork()
if pid == 0:
    for lease in leases:
        lease.release()
    assert leasecap.try_acquire("here") is leasecap.try_acquire("there") is None
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
say("STILL", *(lease.held for lease in leases))
hear()
"""
    )
    assert worker.expect("STILL") == "True True"
    assert (status("here").in_flight, status("there").in_flight) == (1, 1)
