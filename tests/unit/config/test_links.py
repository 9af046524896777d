"""A config.toml, or a root, that is a link into a repository of dotfiles (stow, chezmoi, home-manager)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import run
from places import IS_ROOT

import leasecap
from leasecap._config.root import root_path
from leasecap._config.trust import _is_own_group, danger, follow
from leasecap._errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
AS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
ONE, TWO = "[pools.p]\nlimit = 1\n", "[pools.p]\nlimit = 2\n"


@pytest.fixture
def dotfiles(tmp_path: Path) -> Path:
    """A repository of dotfiles with a config.toml in it."""
    path = tmp_path / "dotfiles"
    (path / "leasecap").mkdir(parents=True)
    (path / "leasecap" / "config.toml").write_text(ONE)
    return path


def is_full() -> bool:
    """Whether one slot is all that the pool has for one who holds it."""
    with leasecap.slot("p"):
        lease = leasecap.try_acquire("p", borrow=False)
        if lease is not None:
            lease.release()
        return lease is None


@pytest.mark.parametrize("target", ["../dotfiles/leasecap/config.toml", "{dotfiles}/leasecap/config.toml"])
def test_a_configuration_behind_a_link_holds(root: Path, dotfiles: Path, target: str) -> None:
    root.mkdir(0o700)
    (root / "config.toml").symlink_to(target.format(dotfiles=dotfiles))
    assert is_full()
    assert leasecap.status("p").pools[0].limit == 1
    assert sorted(os.listdir(dotfiles / "leasecap")) == ["config.toml"]  # pools stay in the root


def test_an_edit_of_the_target_is_seen(root: Path, dotfiles: Path) -> None:
    root.mkdir(0o700)
    (root / "config.toml").symlink_to(dotfiles / "leasecap" / "config.toml")
    assert is_full()
    (dotfiles / "leasecap" / "config.toml").write_text(TWO)
    assert not is_full()


@pytest.mark.parametrize("which", ["the link", "a link behind it", "a directory on the way"])
def test_a_switched_link_is_seen(root: Path, tmp_path: Path, which: str) -> None:
    root.mkdir(0o700)
    for name, text in (("old", ONE), ("new", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(text)
        os.utime(tmp_path / name / "config.toml", (1, 1))  # as in a store that gives all one time
    generation = tmp_path / "generation"
    link = root / "config.toml" if which == "the link" else generation
    end = "" if which == "a directory on the way" else "config.toml"
    link.symlink_to(tmp_path / "old" / end)
    if link is generation:
        (root / "config.toml").symlink_to(generation / ("config.toml" if not end else ""))
    assert is_full()
    (tmp_path / "next").symlink_to(tmp_path / "new" / end)
    (tmp_path / "next").rename(link)
    assert not is_full()


def test_a_link_that_comes_to_lead_nowhere_leaves_the_last_limit_in_force(root: Path, dotfiles: Path) -> None:
    root.mkdir(0o700)
    (root / "config.toml").symlink_to(dotfiles / "leasecap" / "config.toml")
    lease = leasecap.acquire("p")
    (dotfiles / "leasecap" / "config.toml").unlink()
    with pytest.raises(StoreError, match="nothing is there"):
        leasecap.acquire("p", timeout=0)
    lease.release()


@pytest.mark.posix("owners and modes")
def test_limit_writes_through_the_link(root: Path, dotfiles: Path) -> None:
    root.mkdir(0o700)
    (root / "config.toml").symlink_to(dotfiles / "leasecap" / "config.toml")
    assert run("limit", "p", "2").returncode == 0
    assert (root / "config.toml").is_symlink()
    assert (dotfiles / "leasecap" / "config.toml").read_text() == TWO
    assert not is_full()


@pytest.mark.posix("owners and modes")
def test_a_root_behind_a_link_is_the_root(root: Path, dotfiles: Path) -> None:
    (dotfiles / "leasecap").chmod(0o700)
    root.symlink_to(dotfiles / "leasecap")
    assert is_full()
    assert leasecap.status().root == str(dotfiles / "leasecap")
    assert run("run", "-p", "p", "--", "true").returncode == 0
    assert run("doctor").returncode == 0


DANGERS: dict[str, Callable[[Path], object]] = {
    "the file": lambda dotfiles: (dotfiles / "leasecap" / "config.toml").chmod(0o666),
    "its directory": lambda dotfiles: (dotfiles / "leasecap").chmod(0o777),
    "a directory further up": lambda dotfiles: dotfiles.chmod(0o770),
    "a sticky file": lambda dotfiles: (dotfiles / "leasecap" / "config.toml").chmod(0o1666),
    "another's file": lambda dotfiles: os.chown(dotfiles / "leasecap" / "config.toml", 54321, -1),
    "another's directory": lambda dotfiles: os.chown(dotfiles, 54321, -1),
}


@pytest.mark.posix("owners and modes")
@AS_ROOT
@pytest.mark.parametrize("make", DANGERS.values(), ids=DANGERS)
def test_what_others_can_change_is_not_followed(root: Path, dotfiles: Path, make: Callable[[Path], object]) -> None:
    root.mkdir(0o700)
    (root / "config.toml").symlink_to(dotfiles / "leasecap" / "config.toml")
    make(dotfiles)
    with pytest.raises(StoreError) as caught:
        leasecap.acquire("p", timeout=0)
    assert caught.value.path == str(root / "config.toml") and str(dotfiles) in caught.value.message
    assert "chmod" in caught.value.remedy
    for command in (["status"], ["limit"], ["limit", "p", "3"]):
        told = run(*command)
        assert told.returncode != 0 and str(dotfiles) in told.stdout + told.stderr, command


def test_a_sticky_directory_on_the_way_is_safe(dotfiles: Path, tmp_path: Path) -> None:
    dotfiles.chmod(0o1777)
    (tmp_path / "link").symlink_to(dotfiles / "leasecap")
    assert follow(str(tmp_path / "link")) == str(dotfiles / "leasecap")


@pytest.mark.posix("owners and modes")
@AS_ROOT
def test_a_link_of_somebody_else_in_a_sticky_directory_is_not_followed(dotfiles: Path, tmp_path: Path) -> None:
    dotfiles.chmod(0o1777)
    (dotfiles / "step").symlink_to(dotfiles / "leasecap")
    os.chown(dotfiles / "step", 54321, -1, follow_symlinks=False)
    (tmp_path / "link").symlink_to(dotfiles / "step")
    with pytest.raises(StoreError, match="belongs to uid 54321"):
        follow(str(tmp_path / "link"))


def test_links_in_a_circle_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.symlink_to(root.parent / "other")
    (root.parent / "other").symlink_to(root)
    with pytest.raises(StoreError):
        root_path()


@pytest.mark.posix("owners and modes")
@pytest.mark.parametrize(
    ("members", "others", "safe"),
    [([], [], True), (["ann"], [], True), (["ann", "bob"], [], False), ([], ["bob"], False)],
)
def test_only_a_group_without_another_member_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: list[str], others: list[str], safe: bool
) -> None:
    found = os.stat_result((0o40770, 1, 1, 2, 4711, 4711, 0, 0, 0, 0))
    ann = pwd.struct_passwd(("ann", "x", 4711, 4711, "", "/", ""))
    rest = [pwd.struct_passwd((name, "x", 4712, 4711, "", "/", "")) for name in others]
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: ann)
    monkeypatch.setattr("pwd.getpwall", lambda: [ann, *rest])
    monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("ann", "x", 4711, members)))
    _is_own_group.cache_clear()
    assert (danger(found) == "") == safe
    _is_own_group.cache_clear()


@pytest.mark.posix("owners and modes")
@pytest.mark.parametrize("command", [["status"], ["limit"], ["limit", "p"]])
def test_a_root_that_others_can_write_is_told_by_who_only_looks(root: Path, command: list[str]) -> None:
    root.mkdir()
    root.chmod(0o775)
    told = run(*command)
    assert told.returncode == 1 and "can be changed by other users (mode 0775)" in told.stdout + told.stderr
