from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from places import IS_ROOT, PLATFORM, REPOSITORY
from planted import PLANTED

from leasecap._config.root import check_root, make_root, root_path
from leasecap._errors import ConfigError, StoreError

AS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away or become somebody else")


OTHERS = [plant for plant in PLANTED if plant != "a directory" or PLATFORM != "win32"]  # there it has an access list


def refused(path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        make_root(str(path))
    assert caught.value.path == str(path)
    assert caught.value.remedy
    return caught.value


def test_the_root_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEASECAP_HOME", f"{tmp_path}/a/../b/")
    assert root_path() == f"{tmp_path}/b"


@pytest.mark.parametrize("value", ["here", "./x", "../x"])
def test_a_relative_root_would_be_one_cap_per_directory_and_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("LEASECAP_HOME", value)
    with pytest.raises(ConfigError, match="absolute") as caught:
        root_path()
    assert (caught.value.key, caught.value.value) == ("LEASECAP_HOME", value)


def test_a_relative_root_is_refused_also_where_the_working_directory_was_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEASECAP_HOME", "not/asked/before")
    monkeypatch.setattr(os, "getcwd", lambda: os.stat(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="absolute") as caught:
        root_path()
    assert caught.value.allowed is not None and caught.value.allowed.endswith("=/home/me/not/asked/before")


@pytest.mark.parametrize("value", ["/x\r", "/x\n", "/x ", " /x", "/x\r\n", "/x\ty", "  "])
def test_a_root_with_what_does_not_show_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LEASECAP_HOME", value)
    with pytest.raises(ConfigError, match="where it doesn't show") as caught:
        root_path()
    assert (caught.value.key, caught.value.value) == ("LEASECAP_HOME", repr(value))
    assert not set("\r\n\t") & set(str(caught.value).replace("\n" + (caught.value.allowed or ""), ""))


@pytest.mark.parametrize("value", ["~", "~/x", "~me/x", "/home/me/~/x", "/~"])
def test_a_tilde_that_no_shell_replaced_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LEASECAP_HOME", value)
    with pytest.raises(ConfigError, match="no shell has replaced") as caught:
        root_path()
    assert caught.value.allowed is not None and "LEASECAP_HOME=" in caught.value.allowed


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_the_root_has_to_be_named(monkeypatch: pytest.MonkeyPatch, home: str | None) -> None:
    monkeypatch.delenv("LEASECAP_HOME")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)

    def unknown(user: int) -> object:
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigError, match="no home directory") as caught:
        root_path()
    assert caught.value.allowed is not None and "set LEASECAP_HOME" in caught.value.allowed


@pytest.mark.posix("`leasecap run`")
@pytest.mark.parametrize("command", [["status"], ["limit"], ["run", "-p", "p", "--limit", "1", "true"], ["doctor"]])
def test_every_command_says_that_nobody_has_a_home(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CONFIG_HOME")}
    del environment["LEASECAP_HOME"]
    code = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from leasecap.cli.main import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 125), done
    assert "set LEASECAP_HOME" in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.posix("owners and modes")
@AS_ROOT
def test_the_superuser_makes_no_root_in_the_home_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 54321, 54321)
    pwd = pytest.importorskip("pwd")
    user = pwd.struct_passwd(("ann", "x", 54321, 54321, "", str(home), ""))
    monkeypatch.setattr("pwd.getpwuid", lambda uid: user if uid == 54321 else pytest.fail("another uid"))
    for path in (home / "root", home / ".config" / "leasecap"):
        assert "sudo -u ann" in refused(path).remedy
    assert list(home.iterdir()) == []
    make_root(str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_the_root_is_the_users_configuration_directory_and_never_a_temporary_one(
    monkeypatch: pytest.MonkeyPatch, value: str | None, tmp_path: Path
) -> None:
    monkeypatch.delenv("LEASECAP_HOME")
    if value is not None:
        monkeypatch.setenv("LEASECAP_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert Path(root_path()).name == "leasecap"
    assert Path(root_path()).is_relative_to(tmp_path)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_root_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_root(str(tmp_path / "a" / "b" / "root"))
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b" / "root").stat().st_mode & 0o777 == 0o700
    make_root(str(tmp_path / "a" / "b" / "root"))


@pytest.mark.posix("owners and modes")
@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707, 0o702, 0o777])
def test_a_root_that_others_can_write_is_refused(root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    assert f"chmod 700 {root}" in refused(root).remedy
    assert root.stat().st_mode & 0o7777 == mode  # a person looks first what is in it


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755])
def test_a_root_that_others_can_only_read_is_fine(root: Path, mode: int) -> None:
    root.mkdir()
    root.chmod(mode)
    check_root(str(root))


@pytest.mark.posix("owners and modes")
@AS_ROOT
def test_in_a_sticky_root_what_somebody_else_put_there_is_refused(root: Path) -> None:
    root.mkdir()
    root.chmod(0o1777)
    make_root(str(root))
    (root / "config.toml").write_text("")
    os.chown(root / "config.toml", 54321, 54321)
    with pytest.raises(StoreError, match="belongs to uid 54321"):
        make_root(str(root))


@pytest.mark.parametrize("plant", [*OTHERS, "a file", "a symlink to a directory"])
def test_what_is_planted_in_place_of_the_root_is_refused(root: Path, plant: str) -> None:
    if plant == "a directory":
        root.mkdir(0o777)
        root.chmod(0o777)
    elif plant == "a file":
        root.write_text("")
    elif plant == "a symlink to a directory":
        (root.parent / "real").mkdir(0o700)
        root.symlink_to("real")
    else:
        (root.parent / "in").mkdir()
        PLANTED[plant](root.parent / "in" / "it")
        (root.parent / "in" / "it").rename(root)
    error = refused(root)
    assert ("is a symlink" in error.message) == ("symlink" in plant)


@pytest.mark.posix("owners and modes")
def test_a_command_that_is_told_can_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "a root's"
    root.mkdir()
    root.chmod(0o777)
    assert shlex.split(refused(root).remedy)[-3:] == ["chmod", "700", str(root)]


def test_a_root_that_cannot_be_made_is_not_called_removed(tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to("nowhere")
    error = refused(tmp_path / "way" / "root")
    assert error.message == "no directory can be made there"
    assert str(tmp_path / "way") in error.remedy and "LEASECAP_HOME" in error.remedy


def test_a_file_on_the_way_to_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "root")


@pytest.mark.posix("owners and modes")
@AS_ROOT
def test_a_root_of_somebody_else_is_refused_to_the_superuser_as_well(root: Path) -> None:
    root.mkdir(0o700)
    os.chown(root, 65534, 65534)
    error = refused(root)
    assert "belongs to uid 65534, and this is uid 0" in str(error)


@pytest.mark.posix("owners and modes")
@AS_ROOT
def test_a_root_of_somebody_else_is_refused_even_if_one_may_write_it() -> None:
    code = """
import os, sys
import leasecap
from leasecap._config.root import make_root
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[1:]:
    try:
        make_root(path)
    except leasecap.StoreError as error:
        print(error)
"""
    with tempfile.TemporaryDirectory() as outer:  # tmp_path lets nobody but its owner in
        os.chmod(outer, 0o755)
        foreign = Path(outer) / "foreign"
        foreign.mkdir()
        foreign.chmod(0o755)
        said = subprocess.run(
            [sys.executable, "-c", code, str(foreign), str(Path(outer) / "new")],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert f"{foreign}: belongs to uid 0, and this is uid 65534" in said
    assert "LEASECAP_HOME" in said
    assert f"{outer}/new: permission denied" in said
