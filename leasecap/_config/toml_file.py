"""The file config.toml: opening it without trusting what stands there, parsing it, finding the line of an error."""

from __future__ import annotations

import errno
import os
import stat

from leasecap._config.root import check_root
from leasecap._config.trust import follow
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import no_directory, store_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGEST = 1 << 18  # bytes; a file with some hundred pools is far smaller

_MOST_PARTS = 16
"""Parts that a dotted key may have. No key here needs more than five, and the parser takes time by the square of their
number: minutes for one long line."""

_LONGEST_SHOWN = 80

_BOM = b"\xef\xbb\xbf"  # editors of Windows put it in front of UTF-8

BINARY = getattr(os, "O_BINARY", 0)
"""Without it Windows changes line ends, and takes a Ctrl-Z for the end of the file: what follows would not count."""

# O_NONBLOCK: opening a FIFO that somebody planted would wait for a writer, for ever.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | BINARY


def signature(path: str) -> tuple[int, ...]:
    """A cheap value that changes when the file does; () without a file. Take it before the file is read, not after."""
    try:
        found = os.lstat(path)
        of_the_link: tuple[int, ...] = ()
        if stat.S_ISLNK(found.st_mode):
            of_the_link = (found.st_ctime_ns, found.st_ino)
            try:
                found = os.stat(path)
            except OSError as error:
                return (-(error.errno or 1), *of_the_link)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        return (-(error.errno or 1),)
    # The device belongs to it: a link may be changed to lead to a file of another device with the same number.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev, *of_the_link


def read_text(path: str) -> str | None:
    """The contents of ``path``, or None if it, or a directory on the way to it, doesn't exist.

    A link is followed where nobody else could have made it lead elsewhere (`trust.follow`).

    :raises StoreError: if it is no regular file of reasonable size, or can't be read.
    :raises ConfigError: if it is no UTF-8.
    """
    try:
        descriptor = os.open(follow(path) if os.path.islink(path) else path, _FLAGS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_a_file(path, found.st_mode)
        # It is read to the end, not to its size: it may have grown, and some file systems give no size.
        parts: list[bytes] = []
        while (part := os.read(descriptor, 1 << 16)) and sum(map(len, parts)) <= LARGEST:
            parts.append(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    data = b"".join(parts)
    if len(data) > LARGEST:
        raise StoreError(
            f"the configuration is larger than {LARGEST >> 10} KiB",
            path=path,
            remedy="Move it away, or cut it down to its settings.",
        )
    try:
        return data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8 here", file=path, line=line, allowed="Save it as UTF-8.") from None


def _unreadable(path: str, error: OSError) -> StoreError:
    if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # what opening a socket says
        return _not_a_file(path, stat.S_IFSOCK)
    if error.errno == errno.ENOTDIR:
        while not os.path.lexists(path):
            path = os.path.dirname(path)
        return no_directory(path)
    if error.errno == errno.EACCES and os.path.isdir(path):  # Windows refuses to open one
        return _not_a_file(path, stat.S_IFDIR)
    remedy = store_error(error, path).remedy
    if error.errno in (errno.EACCES, errno.EPERM):
        if wrong := _of_the_directory(os.path.dirname(path), error):
            return wrong
        remedy = "Give yourself the right to read it (chmod u+r, chown), or move it away to go on without it."
    return StoreError(f"can't be read ({os.strerror(error.errno or 0)})", path=path, remedy=remedy)


def _of_the_directory(directory: str, error: OSError) -> StoreError | None:
    """What keeps this user from all that is in the directory, if anything does: then it may not even have the file."""
    if os.path.lexists(directory):
        try:
            check_root(directory)
        except StoreError as wrong:
            return wrong
    return None if os.access(directory, os.X_OK) else store_error(error, directory)


def _not_a_file(path: str, mode: int) -> StoreError:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return StoreError(f"is {kind}, not a file", path=path, remedy="Find out who put it there, and move it away.")


def parse_toml(path: str, text: str) -> dict[str, object]:
    """The document in ``text``. The line of a syntax error is where the parser stopped, which may be one too far.

    :raises ConfigError: if it is no TOML.
    """
    import tomllib

    _refuse_long_keys(path, text)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("the file is nested too deeply", file=path) from None
    except ValueError as error:  # TOMLDecodeError is one; a number of too many digits is a plain one
        import re

        what, _, place = str(error).partition(" (at ")
        # The parser names a table as Python shows its parts: ('pools', 'a'). Those that need quotes are left so.
        what = re.sub(r"\('([\w-]+(?:', '[\w-]+)*)',?\)", lambda found: "[" + found[1].replace("', '", ".") + "]", what)
        number = place.partition(",")[0].removeprefix("line ")
        line = int(number) if number.isdigit() else text.count("\n") + 1 if place else None
        raise ConfigError(
            f"this is not valid TOML: {what}", file=path, line=line, allowed="Correct the file; nothing was changed."
        ) from None


def _refuse_long_keys(path: str, text: str) -> None:
    import re

    part = r"""(?:"[^"\n]*"|'[^'\n]*'|(?<![\w-])[\w-]+)[ \t]*"""
    found = re.search(rf"{part}(?:\.[ \t]*{part}){{{_MOST_PARTS},}}", text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigError(
            f"a key of more than {_MOST_PARTS} parts", file=path, line=line, allowed="No key here has more than five."
        )


def line_of(text: str, keys: Sequence[str]) -> int | None:
    """The line in valid ``text``, counted from 1, at which the statement that brings in ``keys`` begins.

    Each statement is given to the parser alone, so it is right for dotted keys, inline tables and texts of several
    lines alike, in a time that grows as the text does.
    """
    import tomllib

    wanted = tuple(keys)
    table: tuple[str, ...] | None = ()  # that of the last header; None in an array of tables
    for line, statement in _statements(text.replace("\r\n", "\n")):
        found: object = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            if _has(found, wanted):
                return line
            table = _path_of(found)
        elif table is not None and wanted[: len(table)] == table and _has(found, wanted[len(table) :]):
            return line
    return None


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements of valid ``text``, each with the number of its first line."""
    import re

    strings = r"""\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'"""
    depth, start, line = 0, 0, 1
    for token in re.finditer(rf"\#[^\n]*|{strings}|[][{{}}\n]", text + "\n", re.DOTALL):
        what = token[0]
        depth += (what in ("[", "{")) - (what in ("]", "}"))
        if what == "\n" and depth == 0:
            statement = text[start : token.start()]
            if statement.strip() and not statement.lstrip().startswith("#"):
                yield line, statement
            line += statement.count("\n") + 1
            start = token.end()


def _path_of(header: object) -> tuple[str, ...] | None:
    path = []
    while isinstance(header, dict) and header:
        [(key, header)] = header.items()
        path.append(key)
    return tuple(path) if isinstance(header, dict) else None


def _has(node: object, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return bool(keys)


def key_text(keys: Sequence[str]) -> str:
    """A dotted key for people, quoted where TOML needs it, with nothing in it that a terminal obeys."""
    return ".".join(key if _is_bare(key) else _quoted(key) for key in keys)


def _is_bare(key: str) -> bool:
    return len(key) <= _LONGEST_SHOWN and key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()


def _quoted(key: str) -> str:
    from leasecap._redact import mask, printable

    return '"' + printable(mask(key), _LONGEST_SHOWN).replace('"', '\\"') + '"'


def value_text(value: object) -> str:
    """A refused value for people, much as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, str):
        from leasecap._redact import mask, printable

        return f'"{printable(mask(value), 60)}"'
    try:
        return str(value)
    except ValueError:  # Python refuses to write an int with thousands of digits
        return "a huge number"
