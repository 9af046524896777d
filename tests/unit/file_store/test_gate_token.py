"""The token of `leasecap gate`: made once, replaced whole, believed only where nobody else can change it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from leasecap._errors import StoreError
from leasecap._file_store.gate_token import GateToken
from leasecap._host.effects import Effects


@pytest.fixture
def token(root: Path) -> GateToken:
    root.mkdir(mode=0o700)
    return GateToken(Effects(), str(root))


def test_it_is_made_once(root: Path, token: GateToken) -> None:
    made = token.make()
    assert len(made) == 48
    assert token.make() == GateToken(Effects(), str(root)).make() == made


def test_many_that_make_it_at_once_get_the_same(root: Path, token: GateToken, monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8)
    monkeypatch.setattr(GateToken, "is_there", _meeting(together, GateToken.is_there))
    found: set[str] = set()
    threads = [threading.Thread(target=lambda: found.add(GateToken(Effects(), str(root)).make())) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 1
    assert os.listdir(root) == ["gate"]


def _meeting(together: threading.Barrier, is_there: object) -> object:
    met: set[int] = set()

    def meet(token: GateToken) -> bool:
        found = is_there(token)  # type: ignore[operator]
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            together.wait(20)  # each has seen that there is none
        return bool(found)

    return meet


def test_a_new_one_is_seen_by_who_has_read_the_old_one(root: Path, token: GateToken) -> None:
    other = GateToken(Effects(), str(root))
    before = other.make()
    after = token.rotate()
    assert after != before
    assert other.read() == after


def test_rotating_makes_the_first_one(token: GateToken) -> None:
    assert token.rotate() == token.read()


def test_it_is_read_again_only_when_the_file_has_changed(token: GateToken, monkeypatch: pytest.MonkeyPatch) -> None:
    made = token.make()
    monkeypatch.setattr(GateToken, "_read", lambda _: pytest.fail("read again"))
    assert token.read() == made


@pytest.mark.posix("owners and modes")
def test_a_mode_that_changes_is_seen(root: Path, token: GateToken) -> None:
    token.make()
    (root / "gate" / "token").chmod(0o604)
    with pytest.raises(StoreError, match="0604") as raised:
        token.read()
    assert "--rotate" in raised.value.remedy
    token.rotate()
    assert (root / "gate" / "token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [b"", b"\n", b"x" * 48, b"0" * 47, b"0" * 49, b"0" * 48 + b"\n\n", b"\xff" * 48])
def test_what_is_no_token_is_refused(root: Path, token: GateToken, text: bytes) -> None:
    token.make()
    (root / "gate" / "token").write_bytes(text)
    with pytest.raises(StoreError, match="no token") as raised:
        token.read()
    assert raised.value.path == str(root / "gate" / "token")


def test_a_directory_that_is_a_link_is_refused(root: Path, token: GateToken, tmp_path: Path) -> None:
    token.make()
    (root / "gate").rename(tmp_path / "gate")
    (root / "gate").symlink_to(tmp_path / "gate")
    for use in (token.rotate, GateToken(Effects(), str(root)).make):
        with pytest.raises(StoreError):
            use()


def test_a_maker_that_fails_leaves_nothing_behind(
    root: Path, token: GateToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("leasecap._host.directory.write_all", fail)
    with pytest.raises(StoreError, match="space"):
        token.make()
    assert os.listdir(root) == []
