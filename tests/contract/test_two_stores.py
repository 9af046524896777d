"""One process with a pool "here", in files, and one "there", on a server: both at once, and never one for the other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import pytest
from commands import PROGRAM, environment, remove_tree, run, status, status_json, until
from each_store import ON_A_SERVER

import leasecap
from leasecap._store_changes import StoreChanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

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


def test_lender_is_looked_for_in_the_borrowers_store_alone(team: Team, store: Store, tmp_path: Path) -> None:
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
                home = team.root
                if inner != outer:  # a root's pool is in one store at a time
                    home = tmp_path / f"{places.index(outer)}.{places.index(inner)}"
                    home.mkdir(mode=0o700)
                    (home / "config.toml").write_text("[pools.p]\nlimit = 1\n")
                given = environment(**lease.env(), LEASECAP_STORE=inner, LEASECAP_HOME=str(home))
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


HOLDS = """
say("ASKS")
with leasecap.slot("p"):
    say("HELD")
    hear()
"""


@pytest.mark.parametrize("by", ["file", "environment"])
def test_pool_is_used_in_one_store_at_a_time_by_all_processes_of_a_root(team: Team, store: Store, by: str) -> None:
    """Each store gives out all slots: two processes with different defaults had twice the limit."""

    def use_in(place: str) -> None:
        os.environ["LEASECAP_STORE"] = place  # `store` puts it back
        team.configure("[pools.p]\nlimit = 1\n" + (f'store = "{place}"\n' if by == "file" else ""))

    another = store.url.replace("/0?", "/1?")
    changes = [("files", store.url), (store.url, "files")]
    for here, there in changes if by == "environment" else [*changes, ("files", another), (another, store.url)]:
        use_in(here)
        with leasecap.acquire("p", timeout=60) as lease:
            use_in(there)
            refused = run("run", "-p", "p", "-n", "--", "true")
            assert refused.returncode == 125, (here, there)
            where = str(team.root) if here == "files" else here.partition("?")[0]
            assert f"in use by pid {os.getpid()}" in refused.stderr and where in refused.stderr
            shown = run("status", "p").stdout
            assert f"moved to {there if there == 'files' else there.partition('?')[0]}" in shown
            assert f"in use by pid {os.getpid()}" in shown
            use_in(here)
            assert run("run", "-p", "p", "-n", "--", "true").returncode == 75, "it is full"
            waiter = team.start(HOLDS, env={"LEASECAP_STORE": os.environ["LEASECAP_STORE"]})
            waiter.expect("ASKS")
            until(lambda: status().waiting == 1)
            lease.release()
            waiter.expect("HELD")
            use_in(there)
            assert run("run", "-p", "p", "-n", "--", "true").returncode == 125, (here, there)
        waiter.kill()
        assert run("run", "-p", "p", "--wait", "60", "--", "true").returncode == 0, "who is dead uses nothing"
        assert "moved to" not in run("status", "p").stdout


def test_holder_in_another_container_keeps_its_pool_in_files(team: Team, store: Store) -> None:
    """Containers that share files have names of their own; on a server such a holder is another machine's."""
    team.configure('[pools.p]\nlimit = 1\nstore = "files"\n')
    holder = team.start(f"from leasecap._host import own_record\nown_record.this_host = lambda: 'container'\n{HOLDS}")
    holder.expect("ASKS")
    holder.expect("HELD")
    assert status().holders[0].host == "container"
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{store.url}"\n')
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 125
    holder.kill()


def test_one_server_by_two_addresses_is_one_store(team: Team, store: Store) -> None:
    team.configure(f'[pools.p]\nlimit = 2\nstore = "{store.url}"\n')
    with leasecap.acquire("p", timeout=60):
        other = store.url.replace("127.0.0.1", "localhost")
        (team.root / "config.toml").write_text(f'[pools.p]\nlimit = 2\nstore = "{other}"\n')
        assert run("run", "-p", "p", "-n", "--", "true").returncode == 0
        assert "moved to" not in run("status", "p").stdout


def test_server_on_which_nobody_has_used_the_pool_is_another_one(team: Team, store: Store) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{store.url}"\n')
    with leasecap.acquire("p", timeout=60):
        fresh = store.url.replace("/0?", "/2?")
        (team.root / "config.toml").write_text(f'[pools.p]\nlimit = 1\nstore = "{fresh}"\n')
        refused = run("run", "-p", "p", "-n", "--", "true")
        assert refused.returncode == 125 and f"in use by pid {os.getpid()}" in refused.stderr


def test_pool_that_others_have_just_begun_to_use_on_its_server_was_not_moved_there(
    team: Team, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wrote it down after it had been read, and before it was read once more."""
    team.configure(f'[pools.p]\nlimit = 2\nstore = "{store.url}"\n')
    holder = team.start(HOLDS)
    holder.expect("ASKS")
    holder.expect("HELD")
    read, first = StoreChanges._read, [None]
    monkeypatch.setattr(StoreChanges, "_read", lambda self, file: first.pop() if first else read(self, file))
    leasecap.acquire("p", timeout=60).release()
    assert not first
    holder.kill()


def test_pool_in_files_that_cannot_be_read_names_what_to_remove(team: Team, store: Store) -> None:
    team.configure('[pools.p]\nlimit = 1\nstore = "files"\n')
    leasecap.acquire("p").release()
    (directory,) = (team.root / "pools").iterdir()
    (directory / "pool.json").write_text("{}")
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{store.url}"\n')
    refused = run("run", "-p", "p", "-n", "--", "true")
    assert refused.returncode == 125 and f"rm -r {directory}" in refused.stderr
    remove_tree(directory)
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_store_that_was_never_reached_was_never_used(team: Team) -> None:
    for place in (NOBODY, "files"):
        team.configure(f'[pools.p]\nlimit = 1\nstore = "{place}"\n')
        assert run("run", "-p", "p", "-n", "--", "true").returncode == (125 if place == NOBODY else 0)


def test_pool_whose_former_server_is_away_names_what_tells_of_it(team: Team, store: Store) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{store.url}"\n')
    leasecap.acquire("p", timeout=60).release()
    (noted,) = (team.root / "stores").iterdir()
    noted.write_text(NOBODY + "\n")
    team.configure('[pools.p]\nlimit = 1\nstore = "files"\n')
    refused = run("run", "-p", "p", "-n", "--", "true")
    assert refused.returncode == 125 and NOBODY in refused.stderr and f"rm {noted}" in refused.stderr
    noted.write_text("nonsense\n")
    refused = run("run", "-p", "p", "-n", "--", "true")
    assert refused.returncode == 125 and f"{noted}: " in refused.stderr
    noted.unlink()
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_forgotten_pool_was_nowhere(team: Team, store: Store) -> None:
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{store.url}"\n')
    leasecap.acquire("p", timeout=60).release()
    assert run("forget", "p").returncode == 0
    assert not list((team.root / "stores").iterdir())


def is_refused() -> bool:
    """The other thread may have asked its server, and not have heard the answer yet."""
    try:
        lease = leasecap.try_acquire("p", borrow=False)
    except leasecap.ConfigError as error:
        assert "the pool was moved to" in str(error)
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
