"""How long requests took in one pool, in its server. All machines add to it; the server merges."""

from __future__ import annotations

import json

from leasecap._feedback.latency import OTHERS, VERSION, Kind, decode_row, encode_row, kind_of
from leasecap._redis_store.lua.latency import ADD, READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leasecap._feedback.latency import Row, Table
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.script import Word


class Latency:
    """That of one pool. Each call blocks, and raises StoreError when the server can't be used."""

    def __init__(self, client: Client, pool: str, latency: str) -> None:
        """
        :param pool: the key that tells whether there is such a pool.
        :param latency: the key of what is known here.
        """
        self._client = client
        self._keys = pool, latency

    def add(self, source: str, number: int, age: int, table: Table) -> Table:
        """Add a table; returns all that is known of its kinds in that hour. Nothing is added to a pool that is gone.

        :param source: whose table it is, and of which hour.
        :param number: one that was added already from this source isn't added again, nor are those before it.
        :param age: how many hours ago its hour was.
        """
        words: list[Word] = [f"@{source}", number, age]
        for kind, row in table.items():
            words += [_field(kind), _field(Kind(OTHERS, kind.streamed)), encode_row(row)]
        found = self._client.run(ADD, self._keys, words)
        rows: dict[Kind, Row] = {}
        for name, data in zip(found[::2], found[1::2], strict=True):
            try:
                rows[_kind(name)] = decode_row(data)
            except ValueError:
                pass  # `read` tells of it
        return rows

    def read(self, hours: int) -> tuple[Mapping[int, Table], tuple[str, ...]]:
        """The counts of the last ``hours``, by their hour since 1970, and what can't be read, for people."""
        names, rows = self._client.run(READ, self._keys, [hours])
        return _tables(zip(names, rows, strict=True), self._keys[1])


def _tables(rows: Iterable[tuple[bytes, bytes]], where: str) -> tuple[Mapping[int, Table], tuple[str, ...]]:
    tables: dict[int, dict[Kind, Row]] = {}
    troubles: list[str] = []
    newer = ""
    for name, data in rows:
        hour, version, _ = name.split(b" ", 2)
        if version != str(VERSION).encode():
            newer = version.decode("ascii", "replace")
            continue
        try:
            tables.setdefault(int(hour), {})[_kind(name)] = decode_row(data)
        except ValueError as error:
            troubles.append(f"{where} {error}")
    if newer:
        troubles.append(f"{where} has rows of format {newer}, and this leasecap knows format {VERSION}: upgrade it")
    return tables, tuple(dict.fromkeys(troubles))


def _field(kind: Kind) -> str:
    return json.dumps(kind, separators=(",", ":"))


def _kind(name: bytes) -> Kind:
    """The kind in the name of a row.

    :raises ValueError: when there is none.
    """
    found = json.loads(name.split(b" ", 2)[2])
    if not (isinstance(found, list) and len(found) == 2 and isinstance(found[0], str) and isinstance(found[1], bool)):
        raise ValueError("holds a row of no kind")
    return kind_of(*found)
