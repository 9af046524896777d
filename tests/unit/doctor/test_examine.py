"""The checks of `leasecap doctor`, each in the wrong situation that it is there for."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from children import await_stop
from helper_process import helper
from places import IS_ROOT, PLATFORM, REPOSITORY
from referee import until
from usage_server import head, says, serving

import leasecap
from leasecap import _extras
from leasecap._doctor import agents, contents, gate, machine, place, proof, rivals, sandbox
from leasecap._doctor.check import Check, Site
from leasecap._doctor.examine import examine
from leasecap._file_store import health, watched_file
from leasecap._gate.clients import AGENTS, PROVIDERS
from leasecap._host import process
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects
from leasecap._runtime import runtime

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
superuser_only = pytest.mark.skipif(not IS_ROOT, reason="only the superuser gives files away")

# A user who owns nothing here. It may read everything, for this Python can stand in somebody's home.
NOBODY = (
    "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search"
)

HOLDER = """
import leasecap
lease = leasecap.acquire("demo", limit=1)
print("held")
input()
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings of the developer's own agents."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def made(root: Path) -> Path:
    root.mkdir(mode=0o700)
    return root


def findings(directory: Path | None = None) -> dict[str, Check]:
    return {check.name: check for check in examine(None if directory is None else str(directory))}


def bad(checks: dict[str, Check]) -> list[str]:
    return [check.name for check in checks.values() if check.verdict == "bad"]


def site(root: Path) -> Site:
    return Site(str(root), "test", None)


def doctor(*before: str) -> subprocess.CompletedProcess[str]:
    """`leasecap doctor` as a process, the command ``before`` in front of it."""
    return subprocess.run(
        [*before, sys.executable, "-m", "leasecap", "doctor"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


def doctor_in(options: Sequence[str], script: str = "true") -> subprocess.CompletedProcess[str]:
    """The same in namespaces of its own, after the shell commands of ``script`` there."""
    inside = [*(["unshare", *options] if options else []), "sh", "-c", f'{script} || exit 77; exec "$@"', "sh"]
    try:
        trial = subprocess.run([*inside, "true"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no unshare command")
    if trial.returncode != 0:
        pytest.skip(f"{' '.join(inside[:-1])} is not permitted here: {trial.stderr.strip()}")
    return doctor(*inside)


def line(result: subprocess.CompletedProcess[str], name: str) -> str:
    """The verdict and the finding of that name, and the remedy below it."""
    lines = result.stdout.splitlines()
    start = next((number for number, text in enumerate(lines) if text[6:].startswith(f"{name} ")), None)
    assert start is not None, result.stdout + result.stderr
    end = next(number for number, text in enumerate(lines[start + 1 :], start + 1) if not text.startswith(" "))
    return "\n".join(lines[start:end])


# -- when all is well -------------------------------------------------------------------------------------------------


def test_a_sound_root_passes_every_check_and_nothing_stays_in_it(made: Path) -> None:
    checks = findings()
    assert bad(checks) == []
    expected = "root permissions config pools leftovers writing sandbox locks notifications proof clock processes"
    assert checks["clock"].verdict == "ok"
    gate = {"gate"} if PLATFORM != "win32" else set()
    assert {*expected.split(), "file system", *gate} == set(checks) - set(AGENTS)
    assert list(made.iterdir()) == []


def test_a_missing_root_is_not_made_and_is_tried_out_beside_its_future_place(root: Path) -> None:
    before = sorted(os.listdir(root.parent))
    checks = findings()
    assert bad(checks) == []
    assert "made on first use" in checks["root"].found
    assert "never at once" in checks["proof"].found
    assert sorted(os.listdir(root.parent)) == before


def test_the_root_and_its_source_are_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.root(site(made)).found == f"{made} (test)"
    assert f"{made} (LEASECAP_HOME)" in next(iter(examine())).found
    monkeypatch.delenv("LEASECAP_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(made.parent / "settings"))
    assert next(iter(examine())).found.startswith(f"{made.parent}/settings/leasecap (XDG_CONFIG_HOME)")


def test_a_root_in_a_temporary_directory_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "/tmp of their own" in place.root(site(Path("/tmp/leasecap"))).remedy
    monkeypatch.setattr(place, "_TEMPORARY", ())  # pytest's own directory may be in one of those
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert place.root(site(tmp_path / "tmp" / "leasecap")).verdict == "note"
    assert place.root(site(tmp_path / "leasecap")).verdict == "ok"


# -- the root ---------------------------------------------------------------------------------------------------------


@pytest.mark.posix("owners and modes")
def test_a_root_that_others_can_change_is_bad_and_nothing_is_written_into_it(made: Path) -> None:
    made.chmod(0o770)
    before = made.stat().st_mtime_ns
    checks = findings()
    assert bad(checks) == ["permissions"]
    assert f"chmod 700 {made}" in checks["permissions"].remedy
    assert "proof" not in checks
    assert checks["trials"].verdict == "note"
    assert made.stat().st_mtime_ns == before


def test_a_root_that_others_can_read_is_only_noted(made: Path) -> None:
    made.chmod(0o755)
    check = place.permissions(site(made))
    assert check.verdict == "note"
    assert f"  chmod 700 {made}" in check.remedy


def test_a_command_is_to_be_pasted_whatever_the_roots_name_is(tmp_path: Path) -> None:
    made = tmp_path / "Application Support"
    made.mkdir()
    made.chmod(0o755)
    assert f"  chmod 700 '{made}'" in place.permissions(site(made)).remedy


@pytest.mark.posix("owners and modes")
@superuser_only
def test_a_root_of_another_user_is_bad(made: Path) -> None:
    os.chown(made, 65534, 65534)
    checks = findings()
    assert bad(checks) == ["permissions"]
    assert "belongs to uid 65534" in checks["permissions"].found
    assert "proof" not in checks


@pytest.mark.posix("owners and modes")
def test_a_root_behind_a_link_that_others_can_move_is_bad(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "shared" / "elsewhere"
    target.mkdir(mode=0o700, parents=True)
    target.parent.chmod(0o777)
    root.symlink_to(target)
    checks = findings()
    assert bad(checks) == ["root"]
    assert str(target.parent) in checks["root"].found
    assert list(target.iterdir()) == []


def test_a_file_in_the_place_of_the_root_is_bad(root: Path) -> None:
    root.write_text("not a directory")
    checks = findings()
    assert "permissions" in bad(checks)
    assert "no directory" in checks["permissions"].found


def test_a_relative_root_is_bad_and_the_machine_is_still_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_HOME", "here")
    checks = findings()
    assert bad(checks) == ["root"]
    assert "absolute" in checks["root"].found
    assert "LEASECAP_HOME=/" in checks["root"].remedy
    assert {"clock", "processes"} < set(checks)


@pytest.mark.linux("mount namespaces")
@linux_only
def test_a_read_only_root_is_bad_with_the_recipe(made: Path) -> None:
    result = doctor_in(["-m"], f"mount --bind {made} {made} && mount -o remount,ro,bind {made}")
    assert result.returncode == 1
    assert line(result, "writing").startswith("bad")
    assert "read-only file system" in line(result, "writing")
    assert "bad   sandbox" in line(result, "sandbox")
    assert "read-only mount" in line(result, "sandbox")
    assert f'writable_roots = ["{made}"]' in line(result, "sandbox")
    assert f'{{"sandbox": {{"filesystem": {{"allowWrite": ["{made}"]}}}}}}' in line(result, "sandbox")


@linux_only
def test_a_full_file_system_is_bad_and_no_sandbox_is_blamed(made: Path) -> None:
    mount = f"mount -t tmpfs -o size=64k,mode=700 tmpfs {made}"
    result = doctor_in(["-m"], f"{mount} && ! head -c 100000 /dev/zero 2>/dev/null > {made}/fill")
    assert result.returncode == 1
    assert "no space left on device" in line(result, "writing")
    assert "free some space" in line(result, "writing")
    assert line(result, "sandbox").startswith("ok")
    assert line(result, "file system").startswith("ok    file system    tmpfs, local, 0 B free")


@linux_only
@superuser_only
def test_a_root_that_this_user_may_not_make_is_bad(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_HOME", str(made / "of" / "nobody"))
    result = doctor_in([], f'set -- {NOBODY} "$@"')
    assert result.returncode == 1
    assert f"{made}: permission denied" in line(result, "writing")
    assert line(result, "sandbox").startswith("note")
    assert f"  mkdir -p -m 700 {made}/of/nobody" in line(result, "sandbox")


# -- what stands in it ------------------------------------------------------------------------------------------------


def test_a_broken_configuration_is_bad_with_file_line_and_key(made: Path) -> None:
    (made / "config.toml").write_text('[pools.demo]\nlimit = "2"\n')
    checks = findings()
    assert bad(checks) == ["config"]
    assert f"{made}/config.toml:2: pools.demo.limit" in checks["config"].found
    assert "whole number" in checks["config"].remedy


def test_a_wrong_environment_variable_is_bad(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_WAIT", "soon")
    with pytest.raises(leasecap.ConfigError, match="LEASECAP_WAIT"):
        contents.config(site(made))
    monkeypatch.setenv("LEASECAP_WAIT", "1s")
    monkeypatch.setenv("LEASECAP_POOL", "..")
    assert bad(findings(made)) == ["config"]


def test_a_store_that_is_none_is_bad_and_the_rest_is_looked_at_all_the_same(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "config.toml").write_text("[pools.demo]\nlimit = 2\n")
    monkeypatch.setenv("LEASECAP_STORE", "nowhere")
    checks = findings()
    assert bad(checks) == ["config"]
    assert "LEASECAP_STORE = nowhere" in checks["config"].found
    assert checks["proof"].verdict == "ok"


USAGE = """
[pools.demo]
limit = 4
usage_url = "http://127.0.0.1:{}/usage"
usage_field = "n"
usage_limit_field = "limit"
"""


def test_what_the_provider_counts_is_asked_and_shown(made: Path) -> None:
    with serving(says({"n": 3, "limit": 5})) as server:
        (made / "config.toml").write_text(USAGE.format(server.port))
        check = findings()["usage"]
    assert (check.verdict, check.found) == ("ok", "pool demo: the provider counts 3 in flight, and allows 5")


def test_provider_that_gives_no_count_is_a_note_with_the_reason(made: Path) -> None:
    with serving(head("401 Unauthorized")) as server:
        (made / "config.toml").write_text(USAGE.format(server.port))
        check = findings()["usage"]
    assert check.verdict == "note" and "pool demo: no usage information" in check.found
    assert "answered 401: usage_key_env names its key" in check.found


def test_a_pool_that_cannot_be_opened_is_bad(made: Path) -> None:
    leasecap.acquire("demo", limit=1).release()
    (description,) = (made / "pools").glob("demo-*/pool.json")
    description.write_text(json.dumps({**json.loads(description.read_text()), "format": 99}))
    checks = findings()
    assert bad(checks) == ["pools"]
    assert "format 99" in checks["pools"].found
    assert "remove" in checks["pools"].remedy


def test_pools_are_counted(made: Path) -> None:
    with leasecap.slot("demo", limit=1):
        leasecap.acquire("other", limit=1).release()
        kind = "a lock directory" if PLATFORM == "win32" else "OS locks"
        assert findings()["pools"].found == f"2 with {kind}, 1 idle; 1 in flight, 0 waiting"


@pytest.mark.posix("stopped processes")
def test_who_is_passed_over_is_named(root: Path) -> None:
    waits = "import leasecap, sys; lease = leasecap.acquire('p', limit=1); print('held', flush=True); input()"
    with leasecap.slot("p", limit=1), helper(waits) as stopped:
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "it waits")
        os.kill(stopped.pid, signal.SIGSTOP)
        await_stop(stopped.pid)
        check = findings()["pools"]
        assert check.verdict == "note" and "1 of them passed over" in check.found
        assert f"pid {stopped.pid} (stopped)" in check.remedy


@pytest.mark.posix("named pipes")
def test_what_the_dead_left_is_shown_and_not_removed(made: Path) -> None:
    with helper(HOLDER) as holder:
        assert holder.hear() == "held"
        (entry,) = (made / "pools").glob("demo-*/leases/*")
        assert findings()["leftovers"].found == "none"
        holder.end()
    pool = entry.parent.parent
    assert findings()["leftovers"].found == "1 of dead holders"
    entry.rename(pool / "staging" / entry.name)
    (pool / "trash" / "old").mkdir()
    (made / "wake").mkdir()
    (made / "wake" / "gone").mkdir()
    os.mkfifo(made / "wake" / "gone" / ".wakeup")
    for young_or_old in ("young", "old"):
        (made / "pools" / f".new-{young_or_old}").mkdir()
        (made / f".leasecap-doctor-{young_or_old}").mkdir()
    long_ago = time.time() - 90_000
    for path in (pool / "trash" / "old", made / "pools" / ".new-old", made / ".leasecap-doctor-old"):
        os.utime(path, (long_ago, long_ago))
    before = sorted(made.rglob("*"))

    check = findings()["leftovers"]

    assert check.verdict == "note"
    assert check.found == "1 in staging/, 1 in trash/, 1 in wake/, 2 half-made"
    assert "harmless" in check.remedy
    assert check.remedy.splitlines()[-2:] == [
        f"  rm -r {made}/.leasecap-doctor-old",
        f"  rm -r {made}/pools/.new-old",
    ]
    assert sorted(made.rglob("*")) == before


# -- locks and the proof ----------------------------------------------------------------------------------------------


@pytest.mark.posix("OS locks")
def test_locks_that_do_not_exclude_are_bad(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Effects, "lock", lambda self, fd: True)
    check = place.locks(site(made))
    assert check.verdict == "bad"
    assert 'lock = "directory"' in check.remedy


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("seen", [False, None, True])
def test_locks_that_a_probe_does_not_see_come_and_go_are_bad(
    made: Path, monkeypatch: pytest.MonkeyPatch, seen: bool | None
) -> None:
    monkeypatch.setattr(Directory, "probe", lambda self, name: (seen, b""))
    assert place.locks(site(made)).verdict == "bad"


def test_a_file_system_without_locks_is_noted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Effects, fd: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(Effects, "lock", refuse)
    check = place.locks(site(made))
    assert check.verdict == "note"
    assert "lock directory" in check.found


def test_the_proof_sees_two_processes_hold_at_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = proof.proof(str(made), "auto")
    assert check.verdict == "ok", check.found
    monkeypatch.setattr(proof, "LIMIT", 2)
    check = proof.proof(str(made), "auto")
    assert check.verdict == "bad"
    assert "at the same time" in check.found
    assert list(made.iterdir()) == []


@pytest.mark.posix("OS locks")
def test_the_proof_is_made_with_each_kind_of_lock_in_use(made: Path) -> None:
    leasecap.acquire("demo", limit=1).release()
    (made / "config.toml").write_text('[defaults]\nlock = "directory"\n')
    proofs = [check.found for check in examine() if check.name == "proof"]
    assert len(proofs) == 2
    assert "(lock directory)" in proofs[0]
    assert "(OS locks)" in proofs[1]


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ["auto"]),
        ('[pools.other]\nlock = "directory"\n', ["auto", "directory"]),
        ('[defaults]\nlock = "directory"\n', ["directory", "os"]),
        ("[pools.other]\nlimit = 0\n", ["auto"]),
    ],
)
def test_the_kinds_of_lock_are_those_of_new_pools_and_of_old_ones(made: Path, text: str, kinds: list[str]) -> None:
    leasecap.acquire("demo", limit=1).release()
    (made / "config.toml").write_text(text)
    assert contents.kinds_of_lock(str(made)) == kinds


def test_a_proving_process_that_fails_is_bad_and_says_why(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "LIMIT", 0)
    check = proof.proof(str(made), "auto")
    assert check.verdict == "bad"
    assert "defaults.limit = 0" in check.found


def test_the_proof_leaves_the_caller_s_own_leases_and_settings_alone(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASECAP_WAIT", "soon")
    monkeypatch.setenv("LEASECAP_LEASE", "/some/root/pool/lease")
    assert proof.proof(str(made), "auto").verdict == "ok"


def test_a_file_named_like_a_module_does_not_disturb_the_proof(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(made)
    assert proof.proof(str(made), "auto").verdict == "ok"


def test_a_proving_process_that_hangs_is_ended_and_reported(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hangs))
    monkeypatch.setattr(rivals, "_TOO_LONG", 0.2)
    check = proof.proof(str(made), "auto")
    assert check.verdict == "bad"
    assert "killed after 0.2 s" in check.found


@pytest.mark.parametrize(
    ("one", "other", "overlaps", "hand_offs"),
    [
        ([(0, 10), (20, 30)], [(10, 20), (35, 40)], 0, (0, 0, 5)),
        ([(0, 10)], [(9, 20)], 1, ()),
        ([(0, 100)], [(10, 20), (30, 40)], 2, ()),
        ([(10, 20)], [(0, 100)], 1, ()),
        ([(5, 10)], [(5, 10)], 1, ()),
        ([(0, 10), (11, 20)], [(30, 40)], 0, (10,)),
        ([(0, 10)], [], 0, ()),
    ],
)
def test_the_judge_counts_overlaps_and_hand_offs(
    one: list[tuple[int, int]], other: list[tuple[int, int]], overlaps: int, hand_offs: tuple[int, ...]
) -> None:
    assert proof.judge(one, other) == proof.Judgement((len(one), len(other)), overlaps, hand_offs)
    assert proof.judge(other, one).overlaps == overlaps


def test_a_report_is_read_whole_though_the_process_was_done_before_its_first_line_was_read() -> None:
    said = "print('held', flush=True); print('[[1, 2]]')"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", said], stdout=pipe, stderr=pipe, text=True) as prover:
        prover.wait()
        assert rivals._report(prover, rivals._line(prover)) == [(1, 2)]


LATE = """
import os, time
try:
    os.mkdir({mark!r})
except OSError:
    os.rmdir({mark!r})
else:
    def mkdir(*about, mkdir=os.mkdir, **more):
        os.mkdir = mkdir
        time.sleep(0.5)
        mkdir(*about, **more)
    os.mkdir = mkdir
"""


def test_neither_process_is_done_before_the_other_has_begun(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The rounds take 0.1 s; the first acquire of one process takes longer, as where a client of a server is loaded.
    (tmp_path / "sitecustomize.py").write_text(LATE.format(mark=str(tmp_path / "other is late")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert proof.proof(str(made), "auto").verdict == "ok"


def test_processes_that_did_not_want_the_slot_at_once_prove_nothing(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart, together = ([(0, 10)], [(20, 30)]), ([(0, 10), (20, 30)], [(11, 19)])
    assert not proof.met(*apart) and not proof.met([(0, 10)], []) and proof.met(*together)
    monkeypatch.setattr(proof, "_kind_of", lambda root: "os")
    monkeypatch.setattr(proof, "compete", lambda pool, settings: together)
    assert proof.proof(str(made), "auto").found.startswith("2 processes held 1 slot 3 times")
    monkeypatch.setattr(proof, "compete", lambda pool, settings: apart)
    check = proof.proof(str(made), "auto")
    assert (check.verdict, check.found[:17]) == ("note", "nothing is proved")


def test_a_process_that_never_gets_the_slot_is_bad() -> None:
    found = proof.finding("a proof", proof.judge([(0, 10)], []), proof.Place("OS locks"))
    assert (found.name, found.verdict) == ("a proof", "bad")


# -- the machine ------------------------------------------------------------------------------------------------------


def test_notifications_without_named_pipes_come_by_a_watched_file(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "_START_AFTER", 0.0)
    monkeypatch.setattr(health, "_PATIENCE", 60.0)
    monkeypatch.setattr(health, "_MOMENT", 60.0)
    monkeypatch.delattr(os, "mkfifo")
    check = machine.notifications(site(made))
    assert (check.verdict, check.found[:24]) == ("ok", "arrive at a watched file")


def test_notifications_that_are_not_to_be_had_are_noted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_MOMENT", 0.1)
    monkeypatch.setattr(watched_file, "FileChanges", no_changes)
    monkeypatch.delattr(os, "mkfifo")
    check = machine.notifications(site(made))
    assert check.verdict == "note"
    assert "look by themselves" in check.remedy


def no_changes(*about: object) -> None:
    raise OSError(errno.EMFILE, "inotify instance limit reached")


@pytest.mark.posix("named pipes")
def test_notifications_that_do_not_arrive_are_noted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.01)
    monkeypatch.setattr(Directory, "notify", lambda self, name, said: None)
    check = machine.notifications(site(made))
    assert (check.verdict, check.found) == ("note", "none arrive here")


@pytest.mark.linux("time namespaces")
@linux_only
def test_a_boot_clock_of_ones_own_is_named_and_no_trouble(made: Path) -> None:
    result = doctor_in(["-T", "--boottime", "1000", "--fork"])
    assert line(result, "clock").startswith("ok")
    assert "+1000 s" in line(result, "clock")


def test_a_boot_clock_whose_offset_can_not_be_read_is_noted(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = process.this_process()._replace(boot_offset=None)
    monkeypatch.setattr(machine, "this_process", lambda: blind)
    check = machine.clock()
    assert check.verdict == "note"
    assert "timens_offsets" in check.found


@pytest.mark.linux("pid namespaces")
@linux_only
def test_a_proc_of_another_pid_namespace_is_noted(made: Path) -> None:
    result = doctor_in(["-p", "--fork"])
    assert line(result, "processes").startswith("note")
    assert "another pid namespace" in line(result, "processes")


@pytest.mark.linux("pid namespaces")
@linux_only
def test_a_pid_namespace_of_ones_own_is_named(made: Path) -> None:
    result = doctor_in(["-p", "--fork", "--mount-proc"])
    assert result.returncode == 0
    assert "pid namespace of its own" in line(result, "processes")
    assert "pid namespace" in line(result, "sandbox")


@pytest.mark.linux("/proc")
@linux_only
@superuser_only
def test_hidden_processes_of_others_are_named(made: Path) -> None:
    result = doctor_in(["-m"], f'mount -t proc -o hidepid=2 proc /proc && set -- {NOBODY} "$@"')
    assert "hidepid" in line(result, "processes")


# -- sandboxes --------------------------------------------------------------------------------------------------------

LANDLOCKED = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        sys.exit(f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result
EXECUTE, READ, READ_DIR, REFER = 1 << 0, 1 << 2, 1 << 3, 1 << 13
every = (1 << 14) - 1
granted = every if sys.argv[1] == "no-refer" else EXECUTE | READ | READ_DIR
attributes = ctypes.create_string_buffer(struct.pack("Q", every))
ruleset = call(444, attributes, 8, 0)
rule = ctypes.create_string_buffer(struct.pack("=Qi", granted & ~REFER, os.open("/", os.O_PATH)))
call(445, ruleset, 1, rule, 0)
libc.prctl(38, 1, 0, 0, 0)
call(446, ruleset, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""


def landlocked(grant: str) -> subprocess.CompletedProcess[str]:
    result = doctor(sys.executable, "-c", LANDLOCKED, grant)
    if result.stderr.startswith("Landlock:"):
        pytest.skip(f"this kernel has no {result.stderr.strip()}")
    return result


@pytest.mark.linux("Landlock")
@linux_only
def test_landlock_round_this_process_is_bad_with_the_recipe(made: Path) -> None:
    result = landlocked("read")
    assert result.returncode == 1
    assert "permission denied" in line(result, "writing")
    assert line(result, "sandbox").startswith("bad")
    assert "perhaps Landlock" in line(result, "sandbox")
    assert "allowWrite" in line(result, "sandbox")


@pytest.mark.linux("Landlock")
@linux_only
def test_landlock_that_forbids_moving_entries_is_bad(made: Path) -> None:
    result = landlocked("no-refer")
    assert result.returncode == 1
    assert "can't be renamed from one directory into another" in line(result, "writing")
    assert line(result, "sandbox").startswith("bad")


def test_a_sandbox_that_lets_the_root_be_written_is_ok(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "restrictions", lambda path: ["seccomp filter"])
    check = sandbox.sandbox(site(made))
    assert check.verdict == "ok"
    assert "seccomp filter" in check.found


# -- agents -----------------------------------------------------------------------------------------------------------


def test_an_agent_without_settings_is_not_mentioned(made: Path) -> None:
    assert list(agents.present()) == []


def test_an_agent_with_settings_is(made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".claude").mkdir()
    (home / "codex-elsewhere").mkdir()
    monkeypatch.setenv("CODEX_HOME", str(home / "codex-elsewhere"))
    checks = findings()
    assert checks["Codex"].found.startswith(f"{home}/codex-elsewhere/config.toml")
    assert checks["Claude Code"].verdict == "ok"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (None, "note"),
        ("", "note"),
        ('sandbox_mode = "workspace-write"\n', "note"),
        ('sandbox_mode = "danger-full-access"\n', "ok"),
        ('[sandbox_workspace_write]\nwritable_roots = ["{root}"]\n', "ok"),
        ('[sandbox_workspace_write]\nwritable_roots = ["/nowhere", "{parent}"]\n', "ok"),
        ('[sandbox_workspace_write]\nwritable_roots = ["{root}-other", 7]\n', "note"),
        ("sandbox_workspace_write = 3\n", "note"),
        ("this is [no TOML", "note"),
    ],
)
def test_codex_settings_are_read(made: Path, home: Path, text: str | None, verdict: str) -> None:
    (home / ".codex").mkdir()
    if text is not None:
        (home / ".codex" / "config.toml").write_text(
            text.replace("{root}", str(made)).replace("{parent}", str(made.parent))
        )
    check = agents.codex(site(made))
    assert check.verdict == verdict
    if verdict == "note" and "TOML" not in (text or ""):
        assert f'  writable_roots = ["{made}"]' in check.remedy.splitlines()


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        (None, "ok"),
        ({}, "ok"),
        ({"sandbox": {"enabled": False}}, "ok"),
        ({"sandbox": {"enabled": True}}, "note"),
        ({"sandbox": {"enabled": True, "filesystem": {"allowWrite": ["{root}"]}}}, "ok"),
        ({"sandbox": {"enabled": True, "filesystem": {"allowWrite": ["~/elsewhere"]}}}, "note"),
        ([1, 2], "ok"),
    ],
)
def test_claude_code_settings_are_read(made: Path, home: Path, settings: object, verdict: str) -> None:
    (home / ".claude").mkdir()
    if settings is not None:
        (home / ".claude" / "settings.json").write_text(json.dumps(settings).replace("{root}", str(made)))
    check = agents.claude_code(site(made))
    assert check.verdict == verdict
    if verdict == "note":
        assert f'  {{"sandbox": {{"filesystem": {{"allowWrite": ["{made}"]}}}}}}' in check.remedy.splitlines()


# -- a slot per request -----------------------------------------------------------------------------------------------


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All of PATH, and nothing in it yet."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def put_on_path(commands: Path, *names: str) -> None:
    for name in names:
        (commands / name).write_text("#!/bin/sh\n")
        (commands / name).chmod(0o755)


def test_a_gate_without_its_packages_is_noted_with_the_line_to_type(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_extras._NEEDED, "gate", ("os", "no_such_package"))
    check = gate.extra()
    assert (check.verdict, check.found) == ("note", "leasecap run --per-request lacks no_such_package")
    assert check.remedy.splitlines()[-1] == "  pip install 'leasecap[gate]'"


def test_a_gate_with_its_packages_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_extras._NEEDED, "gate", ("os",))
    assert gate.extra().verdict == "ok"


@pytest.mark.posix("`run` refuses on Windows")
def test_agents_on_path_are_named_with_what_leads_them_through(made: Path, commands: Path) -> None:
    put_on_path(commands, "claude", "codex", "pi", "something-else")
    checks = findings()
    assert checks["claude"].found == "through the gate by ANTHROPIC_BASE_URL"
    assert checks["codex"].found == "through the gate by -c model_provider, token in a header"
    assert (checks["pi"].verdict, checks["pi"].found) == ("note", "the gate can't reach it")
    assert "without --per-request" in checks["pi"].remedy
    assert not {"gemini", "something-else"} & set(checks)
    assert bad(checks) == []


def test_agents_that_config_toml_teaches_are_named(made: Path, commands: Path) -> None:
    put_on_path(commands, "claude", "mine", "pi")
    (made / "config.toml").write_text(
        '[gate.agents.mine]\nprovider = "openai"\n[gate.agents.pi]\nvariables = { PI_URL = "{openai}" }\n'
        '[gate.agents.elsewhere]\nprovider = "openai"\n'
    )
    assert gate.on_path(site(made)) == ["claude", "pi", "mine"]
    for name in ("mine", "pi"):
        found = f"through the gate by [gate.agents.{name}] in config.toml"
        assert gate.reached(name, site(made)) == Check(name, "ok", found)


def test_agents_are_named_though_config_toml_can_not_be_read(made: Path, commands: Path) -> None:
    put_on_path(commands, "claude")
    (made / "config.toml").write_text("this is [no TOML")
    assert gate.on_path(site(made)) == ["claude"]
    assert gate.reached("claude", site(made)).verdict == "ok"


@pytest.fixture
def token(made: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in (variable.name for provider in PROVIDERS.values() for variable in provider.variables):
        monkeypatch.delenv(variable, raising=False)
    return runtime.gate_token(str(made)).make()


def test_a_gate_that_stays_is_looked_at_where_there_is_one(made: Path, token: str) -> None:
    assert gate.standing(site(made)) == Check("leasecap gate", "ok", "doesn't run")
    runtime.standing_gates(str(made)).note(4283, {}, {})
    assert gate.standing(site(made)).found == f"runs on 127.0.0.1:4283 (pid {os.getpid()})"


@pytest.mark.posix("`gate` refuses on Windows")
def test_a_token_that_others_can_read_is_bad(made: Path, token: str) -> None:
    assert bad(findings()) == []
    (made / "gate" / "token").chmod(0o644)
    checks = findings()
    assert bad(checks) == ["leasecap gate"]
    assert "--rotate" in checks["leasecap gate"].remedy


def test_what_leads_to_a_gate_that_doesnt_run_is_noted(made: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and doesn't listen
        port = unused.getsockname()[1]
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/{token}/openai/v1")
        check = gate.standing(site(made))
        assert (check.verdict, check.remedy.splitlines()[-1]) == ("note", f"  leasecap gate --port {port}")
        assert "OPENAI_BASE_URL" in check.found and token not in check.found
        unused.listen()
        assert gate.standing(site(made)).verdict == "ok"  # that of a command


def test_a_token_that_the_gate_refuses_is_noted(made: Path, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.standing_gates(str(made)).note(4283, {}, {})
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:4283/{token}/openai/v1")
    assert gate.standing(site(made)).verdict == "ok"
    runtime.gate_token(str(made)).rotate()
    check = gate.standing(site(made))
    assert (check.verdict, "--env" in check.remedy) == ("note", True)


# -- another directory, and no crash ----------------------------------------------------------------------------------


@pytest.mark.posix("owners and modes")
def test_another_directory_is_tried_in_place_of_a_root_that_cannot_be_trusted(made: Path, tmp_path: Path) -> None:
    made.chmod(0o777)
    other = tmp_path / "other"
    other.mkdir()
    checks = findings(other)
    assert bad(checks) == ["permissions"]
    assert str(other) in checks["writing"].found
    assert checks["proof"].verdict == "ok"
    assert list(other.iterdir()) == []


def test_another_directory_that_is_missing_is_bad(made: Path, tmp_path: Path) -> None:
    checks = findings(tmp_path / "nowhere")
    assert bad(checks) == ["directory"]
    assert not (tmp_path / "nowhere").exists()


def test_a_check_that_crashes_is_a_bad_finding(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> Check:
        raise RuntimeError("unheard of")

    monkeypatch.setattr(machine, "clock", crash)
    checks = findings()
    assert bad(checks) == ["clock"]
    assert "unheard of" in checks["clock"].found
    assert "processes" in checks


def test_scratch_directories_are_private(tmp_path: Path) -> None:
    with place.scratch(str(tmp_path)) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert not os.path.exists(path)
