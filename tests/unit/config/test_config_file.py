from __future__ import annotations

import errno
import gc
import os
import socket
from pathlib import Path

import pytest
from places import IS_ROOT

from leasecap._config.config import load_config
from leasecap._config.toml_file import signature
from leasecap._errors import ConfigError, LeasecapError, StoreError


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"[pools.a]\nlimit = 1\n# caf\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        load_config(str(tmp_path))
    assert caught.value.line == 3


def cannot_load(root: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        load_config(str(root))
    assert caught.value.path == str(root / "config.toml")
    assert caught.value.remedy
    return caught.value


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to("real.toml")
    assert "nothing is there" in cannot_load(tmp_path).message


@pytest.mark.posix("FIFOs among files")
def test_a_fifo_in_place_of_the_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.toml")
    assert "FIFO" in cannot_load(tmp_path).message


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    assert "directory" in cannot_load(tmp_path).message


@pytest.mark.posix("sockets among files")
def test_a_socket_in_place_of_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("config.toml")
        assert "socket" in cannot_load(tmp_path).message


def test_a_file_in_place_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StoreError, match="directory") as caught:
        load_config(str(tmp_path / "root"))
    assert caught.value.path == str(tmp_path / "root")


@pytest.mark.posix("owners and modes")
@pytest.mark.parametrize("wrong", ["another's root", "no right to search it", "a directory above"])
def test_root_that_is_closed_to_this_user_is_told_of_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    root = tmp_path / "root"
    if wrong != "a directory above":  # else nobody tells whether it is there
        root.mkdir(mode=0o700)
    config, opens, access = str(root / "config.toml"), os.open, os.access

    def opened(path: str, flags: int) -> int:
        if path == config:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opens(path, flags)

    monkeypatch.setattr(os, "open", opened)
    if wrong == "another's root":
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    else:
        monkeypatch.setattr(os, "access", lambda path, mode: path != str(root) and access(path, mode))
    with pytest.raises(StoreError) as caught:
        load_config(str(root))
    assert caught.value.path == str(root)
    assert ("run as that user" if wrong == "another's root" else "writable for this user") in caught.value.remedy
    assert "LEASECAP_HOME" in caught.value.remedy


def test_a_file_larger_than_any_of_ours_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "config.toml").open("wb") as file:
        file.truncate(1 << 33)
    assert "256 KiB" in cannot_load(tmp_path).message


@pytest.mark.skipif(IS_ROOT, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_refused_and_means_no_default(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[pools.a]\nlimit = 1\n")
    (tmp_path / "config.toml").chmod(0)
    assert "Permission denied" in cannot_load(tmp_path).message


def test_an_error_while_reading_names_the_file_and_means_no_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("[pools.a]\nlimit = 1\n")

    def broken(_descriptor: int, _size: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    assert "Input/output error" in cannot_load(tmp_path).message


def test_no_descriptor_is_left_open_whatever_happens(tmp_path: Path) -> None:
    gc.collect()  # what earlier tests left in cycles would be closed in between
    before = len(os.listdir("/dev/fd"))
    for contents in (b"", b"\xff", b"x" * (2 << 20), b"limit = 1"):
        (tmp_path / "config.toml").write_bytes(contents)
        try:
            load_config(str(tmp_path))
        except LeasecapError:
            pass
    assert len(os.listdir("/dev/fd")) <= before


def test_the_signature_changes_with_the_file_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert signature(str(path)) == signature(str(tmp_path / "none")) == ()
    path.write_text("[pools.a]\nlimit = 1\n")
    first = signature(str(path))
    assert first == signature(str(path)) != ()
    other = tmp_path / "other"
    other.write_text("[pools.a]\nlimit = 2\n")
    os.utime(other, ns=(first[0], first[0]))
    other.rename(path)
    assert signature(str(path)) != first
    path.unlink()
    assert signature(str(path)) == ()
