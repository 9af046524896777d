"""What an agent's module sees of the command, and what it answers."""

from __future__ import annotations

import os

from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class World(NamedTuple):
    """The command before anything is changed.

    :ivar directory: where it starts.
    :ivar read: the text of a file, None where there is none that can be read.
    :ivar superuser: whether files that we write belong to root.
    """

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    directory: str
    read: Callable[[str], str | None]
    superuser: bool = False

    @property
    def home(self) -> str:
        """The user's home."""
        return self.environ.get("HOME") or os.path.expanduser("~")

    def upward(self) -> Iterator[str]:
        """The directory of the command, and all above it."""
        directory = self.directory
        while True:
            yield directory
            above = os.path.dirname(directory)
            if above == directory:
                return
            directory = above

    def json(self, path: str) -> Mapping[str, object]:
        """The object in a JSON file, which may have comments; {} without a file.

        :raises ConfigError: if it is none.
        """
        text = self.read(path)
        return {} if text is None else parse_json(text, path)


class Found(NamedTuple):
    """An address in the environment or in an agent's own configuration.

    :ivar file: the file, or the variable itself.
    """

    url: str
    file: str
    key: str | None = None


class Examined(NamedTuple):
    """Where an agent sends its requests by itself.

    :ivar own: the upstream of its own requests; None: as the table says.
    :ivar addresses: by upstream, as far as its own configuration decides it.
    """

    own: str | None = None
    addresses: Mapping[str, Found] = {}
    warnings: tuple[str, ...] = ()


class Links(NamedTuple):
    """The gate's addresses by upstream, each with the path that the client is to have in it.

    :ivar urls: with the token.
    :ivar bare: without it, for clients that send it in a header.
    :ivar directory: where the private files will be.
    """

    urls: Mapping[str, str]
    bare: Mapping[str, str]
    directory: str


class Arranged(NamedTuple):
    """What makes an agent send its requests through the gate.

    :ivar files: texts by the file's name in the private directory.
    """

    argv: tuple[str, ...]
    variables: Mapping[str, str] = {}
    files: Mapping[str, str] = {}


def parse_json(text: str, where: str) -> Mapping[str, object]:
    """The object in ``text``: JSON, with comments and commas at the end of lists as agents allow them.

    :raises ConfigError: if it is none; ``where`` is the file or the variable.
    """
    import json

    try:
        found = json.loads(text)
    except ValueError:
        try:
            found = json.loads(_plain(text))
        except ValueError:
            found = None
    if isinstance(found, dict):
        return found
    raise ConfigError("this is no JSON object, so where the command sends its requests can't be told", file=where)


def at(tree: object, *keys: str) -> object:
    """What stands in ``tree`` under the keys, or None."""
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return None
        tree = tree[key]
    return tree


def _plain(text: str) -> str:
    import re

    def kept(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith('"') else " "

    text = re.sub(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', kept, text, flags=re.DOTALL)
    return re.sub(r'"(?:\\.|[^"\\])*"|,(?=\s*[}\]])', kept, text)
