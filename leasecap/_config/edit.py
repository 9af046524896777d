"""Edits of config.toml by `leasecap limit`: comments and order stay, and an edit that fails leaves the file as it
was."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass

from leasecap._config.config import Config, PoolConfig, config_path, parse_config
from leasecap._config.pool_name import pool_name
from leasecap._config.schema import UNLIMITED, parse_limit
from leasecap._config.seal import is_sealed, seal
from leasecap._config.toml_file import BINARY, key_text, parse_toml, read_text, signature
from leasecap._config.trust import follow
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import store_error
from leasecap._moving import patiently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = 10.0  # seconds; an edit takes milliseconds

_ADDED = re.compile(r'(?:\A|(?<=\n)\r?\n)\[[^\n]*\nlimit = (?:[0-9]+|"unlimited")\r?(?:\n|\Z)(?=\s*(?:\[|\Z))')
"""A table that was added for a limit, with nothing else in it or right above it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What holds for the pool before and after an edit."""

    before: PoolConfig
    after: PoolConfig


def set_limit(root: str, pool: str, limit: int | None) -> Change:
    """Writes the limit of ``pool`` into config.toml (`UNLIMITED` as the word), or with None takes it out.

    Root and file are made if they are missing. Two edits at once come one after the other. The file is replaced whole.

    :raises ConfigError: if the pool or the limit is none, or the file is broken: a broken file is never edited.
    :raises StoreError: if the root or the file can't be used, or another editor doesn't come to an end.
    """
    value = "unlimited" if limit == UNLIMITED else limit
    try:
        if value is not None:
            parse_limit(value)
    except ValueError as error:
        raise ConfigError(str(error), key="limit", value=repr(limit)) from None
    pool_name(pool)  # a bad one must not leave a new root behind
    from leasecap._config.root import make_root

    make_root(root)
    path = config_path(root)
    was_sealed = is_sealed(root, read_text(path) or "")
    with _only_editor(root):
        seen = signature(path)
        old = read_text(path) or ""
        before = parse_config(path, old).pool(pool)
        new = _edited(path, old, before.name.text, value)
        after = _checked(path, old, new, before.name.text, value).pool(pool)
        if new != old:
            _replace(root, new, seen)
        elif was_sealed:
            seal(root, old)
    return Change(before, after)


@contextmanager
def _only_editor(root: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = os.path.join(root, "config.lock")
    lock = FileLock(path, timeout=_PATIENCE, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"another `leasecap limit` has held this for {_PATIENCE:g} s",
            path=path,
            remedy="End that process (it may be stopped) and try again; deleting the file doesn't help.",
        ) from None
    except OSError as error:
        raise store_error(error, path) from error
    try:
        yield
    finally:
        lock.release()


def _edited(path: str, text: str, name: str, value: int | str | None) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    key = _table_key(path, text, name)
    if key is None:
        if value is None:
            return text
        # The table is added as text at the end: tomlkit would put it right above the next one, without a blank line.
        line = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text else line if text.endswith("\n") else line * 2
        header = tomlkit.key(["pools", name]).as_string()
        return f"{text}{gap}[{header}]{line}limit = {tomlkit.item(value).as_string()}{line}"
    if value is None:
        found = _without_table(text, key)
    else:
        found = _below_header(text, key, f"limit = {tomlkit.item(value).as_string()}")
    if found is not None:
        return found
    try:
        document = tomlkit.parse(text)
        table = document["pools"][key]
        if value is not None:
            table["limit"] = value
        elif "limit" in table:
            del table["limit"]
        return tomlkit.dumps(document)
    except (TOMLKitError, ValueError, TypeError, KeyError) as error:
        raise _by_hand(path, name, value) from error


def _below_header(text: str, key: str, line: str) -> str | None:
    """``text`` with that line as the first of the pool's table; None if it has a limit, or no header of its own.

    tomlkit would put it below the comments at the table's end, which mostly belong to the next one.
    """
    if "limit" in tomllib.loads(text)["pools"][key]:
        return None
    for header in re.finditer(r"^[ \t]*\[[^\n]*(\n|\Z)", text, re.MULTILINE):
        end = "\r\n" if "\r\n" in text else "\n"
        new = text[: header.end()] + ("" if header[1] else end) + line + end + text[header.end() :]
        try:
            if tomllib.loads(header[0]).get("pools") == {key: {}} and "limit" in tomllib.loads(new)["pools"][key]:
                return new  # else the header is a line of a text
        except tomllib.TOMLDecodeError:
            continue  # it is none
    return None


def _without_table(text: str, key: str) -> str | None:
    """``text`` without the pool's table, if that is as `_edited` has added it; else None.

    An empty one would stay, and a misspelt name be known from then on.
    """
    if tomllib.loads(text)["pools"][key].keys() != {"limit"}:
        return None
    for found in _ADDED.finditer(text):
        new = text[: found.start()] + text[found.end() :]
        try:
            if key not in tomllib.loads(new).get("pools", {}):
                return new  # else the header is another pool's, or a line of a text
        except tomllib.TOMLDecodeError:
            continue
    return None


def _table_key(path: str, text: str, name: str) -> str | None:
    """How the file spells the pool's table, if it has one."""
    pools = parse_toml(path, text).get("pools", {})
    assert isinstance(pools, dict)
    identity = pool_name(name).identity
    return next((key for key in pools if pool_name(key).identity == identity), None)


def _checked(path: str, old: str, new: str, name: str, value: int | str | None) -> Config:
    """The new configuration, if it says what it should and nothing else has changed."""
    expected = parse_toml(path, old)
    try:
        found = parse_toml(path, new)
    except ConfigError as error:
        raise _by_hand(path, name, value) from error
    for document in (expected, found):
        pools = document.setdefault("pools", {})
        assert isinstance(pools, dict)
        table = pools.setdefault(_table_key(path, old, name) or name, {})
        if document is expected:
            table.pop("limit", None)
            table.update({} if value is None else {"limit": value})
    if expected != found:
        raise _by_hand(path, name, value)
    return parse_config(path, new)


def _by_hand(path: str, name: str, value: int | str | None) -> ConfigError:
    return ConfigError(
        "the file is written in a way that can't be edited without changing something else; it was left as it is",
        file=path,
        key=key_text(("pools", name, "limit")),
        allowed="Take the limit out by hand." if value is None else "Write the limit by hand.",
    )


def _replace(root: str, text: str, seen: tuple[int, ...]) -> None:
    """Puts ``text`` in the place of config.toml, whole or not at all.

    `Directory.replace` does that for a pool's files, which need to survive no crash of the machine. This one follows a
    link, keeps owner and mode, and looks at the last moment whether somebody else has edited.
    """
    from secrets import token_hex

    path = config_path(root)
    target = _writable(path)
    temporary = f"{target}.{token_hex(8)}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o600)
        try:
            _take_owner_and_mode(target, descriptor)
            data = text.encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        seal(root, text)  # says that the file is whole, so that a higher limit counts at once
        if signature(path) != seen:  # a text editor, which knows nothing of our lock
            raise StoreError(
                "was changed by somebody else in this very moment, and not by us", path=path, remedy="Try again."
            )
        patiently(os.replace, temporary, target)
    except BaseException as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        if isinstance(error, OSError):
            raise store_error(error, path) from error
        raise


def _writable(path: str) -> str:
    """What is to be replaced: the file itself, or what the link there leads to.

    :raises StoreError: when that can't be written, as in a generation of home-manager.
    """
    if not os.path.islink(path):
        return path
    target = follow(path)
    if os.lstat(target).st_mode & 0o200 and os.access(os.path.dirname(target), os.W_OK):
        return target
    raise StoreError(
        f"is a link to {target}, which is read-only",
        path=path,
        remedy="set the limit where that file comes from (home-manager, a repository of dotfiles), or put a file of "
        "its own here in place of the link",
    )


def _take_owner_and_mode(path: str, descriptor: int) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if sys.platform == "win32":
        return  # Windows has access lists in place of modes, and a file takes over those of its directory
    os.fchmod(descriptor, found.st_mode & 0o777)
    try:
        # `sudo leasecap limit` must not leave a file that its owner can't read.
        os.fchown(descriptor, found.st_uid, found.st_gid)
    except PermissionError:
        pass
