"""The table of an hour: its bounds, its format whatever stands in the file, and time-outs that come near."""

from __future__ import annotations

import json
import random

import pytest

from leasecap._feedback.histogram import EMPTY, FIRST, LAST, Histogram, histogram
from leasecap._feedback.latency import (
    ENOUGH,
    MAX_BYTES,
    MOST_ROWS,
    NEAR,
    OTHERS,
    Kind,
    Newer,
    Row,
    added,
    cliff,
    decode,
    describe,
    encode,
    kind_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leasecap._feedback.latency import Table

OPUS = Kind("opus", True)


def table(kind: Kind = OPUS, first: tuple[float, ...] = (1.0,), whole: tuple[float, ...] = (), **more: bool) -> Table:
    return {kind: Row(histogram(first), histogram(whole), **more)}


def test_tables_are_added_by_kind() -> None:
    plain = Kind("opus", False)
    both = added(added(table(first=(1.0,)), table(plain, (5.0,))), table(first=(2.0,), whole=(9.0,)))
    assert both[OPUS].first == histogram((1.0, 2.0)) and both[OPUS].whole == histogram((9.0,))
    assert both[plain].first == histogram((5.0,))


def test_requests_to_another_machine_make_the_row_one_of_another_machine() -> None:
    assert added(table(local=True), table(local=True))[OPUS].local
    assert not added(table(local=True), table(local=False))[OPUS].local


def test_more_models_than_have_room_count_as_others() -> None:
    found: Table = {}
    for number in range(200):
        for streamed in (True, False):
            found = added(found, table(Kind(f"model-{number}", streamed)))
    assert len(found) == MOST_ROWS
    assert sum(row.first.n for row in found.values()) == 400
    assert found[Kind(OTHERS, True)].first.n + found[Kind(OTHERS, False)].first.n == 400 - (MOST_ROWS - 2)


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        (None, ""),
        ("", ""),
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("a" * 5000, "a" * 79 + "…"),
        ("\x1b[31mred\n", "\\x1b[31mred\\n"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("模型", "模型"),
    ],
    ids=["none", "empty", "plain", "long", "escape", "bidi", "lone", "wide"],
)
def test_a_model_is_printable_and_not_long(model: str | None, shown: str) -> None:
    kind = kind_of(model, True)
    assert kind.model == shown
    assert next(iter(decode(encode({kind: Row(histogram([1.0]))})))) == kind, "and stays what it is in the file"


# -- the format -------------------------------------------------------------------------------------------------------


def test_what_is_encoded_is_decoded() -> None:
    chance = random.Random(1)
    times = [round(chance.lognormvariate(2, 2), 6) for _ in range(2000)]
    whole = added(table(first=tuple(times), whole=tuple(times[:7])), table(Kind("", False), (3.0,), local=False))
    assert decode(encode(whole)) == whole


def test_the_largest_table_can_be_read_again() -> None:
    counts = dict.fromkeys(range(FIRST, LAST + 1), 10**9)
    full = Histogram(sum(counts.values()), 10**9, 12345.678901, counts)
    found = {kind_of("\U0001f600" * 70 + str(each), bool(each % 2)): Row(full, full) for each in range(MOST_ROWS - 2)}
    data = encode(found)
    assert len(data) <= MAX_BYTES
    assert decode(data) == found


def test_a_field_of_a_later_version_is_ignored_and_a_missing_one_has_its_default() -> None:
    raw: Any = json.loads(encode(table()))
    raw["later"] = {"a": 1}
    raw["rows"][0] |= {"later": 1}
    raw["rows"][0]["first"] |= {"later": [1]}
    assert decode(json.dumps(raw).encode()) == table()
    assert decode(b'{"version": 1}') == {}
    assert decode(b'{"version": 1, "rows": [{}]}') == {Kind("", False): Row(EMPTY, EMPTY, False)}


def test_a_later_format_says_so() -> None:
    with pytest.raises(Newer, match="format 2"):
        decode(b'{"version": 2, "rows": "as it likes"}')


def row(**fields: object) -> bytes:
    return json.dumps({"version": 1, "rows": [{"model": "m", "streamed": True, **fields}]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff\x00",
        b"[" * 100_000,
        b'{"version": true}',
        b'{"version": "1"}',
        b'{"rows": []}',
        b'{"version": 1, "rows": {}}',
        b'{"version": 1, "rows": [1]}',
        row(model=1),
        row(streamed="yes"),
        row(local=None),
        row(first=1),
        row(first={"counts": []}),
        row(first={"counts": {"x": 1}}),
        row(first={"counts": {"1": -1}}),
        row(first={"counts": {"1": 1.5}}),
        row(first={"counts": {"1": True}}),
        row(first={"counts": {"1": 10**30}}),
        row(first={"counts": {"99999": 1}}),
        row(first={"counts": {"\u0661": 1}}),
        row(first={"counts": {"1": 1}, "over": 2}),
        row(first={"counts": {"1": 1}, "max": -1}),
        b'{"version": 1, "rows": [{"first": {"counts": {"1": 1}, "max": NaN}}]}',
        b'{"version": 1, "rows": [{"first": {"counts": {"1": 1}, "max": Infinity}}]}',
        b'{"version": 1, "rows": []}' + b" " * MAX_BYTES,
    ],
    ids=str,
)
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


def test_rows_without_end_are_bounded_and_printable() -> None:
    raw = {"version": 1, "rows": [{"model": f"\x1b{n}", "first": {"counts": {"1": 1}, "max": 1}} for n in range(5000)]}
    found = decode(json.dumps(raw).encode())
    assert len(found) <= MOST_ROWS and all(kind.model.isprintable() for kind in found)
    assert sum(each.first.n for each in found.values()) == 5000


# -- time-outs that come near -----------------------------------------------------------------------------------------


def near(first: list[float], timeout: float | None, streamed: bool = True) -> str | None:
    found = cliff(Kind("opus", streamed), Row(histogram(first)), timeout)
    return None if found is None else describe(found)


def test_a_p99_near_the_time_out_is_told_with_key_and_remedy() -> None:
    slow = [2.0] * 97 + [110.0] * 3
    assert near(slow, 120) == (
        "opus, streamed: first byte p99 1m49s of 100, near first_byte_timeout 2m00s: "
        "lower the limit, or raise the time-out"
    )
    assert near(slow, 60) == (
        "opus, streamed: first byte p99 1m49s of 100, past first_byte_timeout 1m00s: "
        "lower the limit, or raise the time-out"
    )
    assert "answer_timeout 2m00s" in (near(slow, 120, streamed=False) or "")


def test_nothing_is_told_far_below_of_few_or_without_a_time_out() -> None:
    assert near([2.0] * 97 + [120 * NEAR * 0.95] * 3, 120) is None
    assert near([2.0] * 970 + [119.0] * 3, 120) is None, "three of a thousand are no p99"
    assert near([119.0] * (ENOUGH - 1), 120) is None and near([119.0] * ENOUGH, 120) is not None
    assert near([2.0] * 50 + [1000.0] * 50, None) is None
    assert near([], 120) is None
