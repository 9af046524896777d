from __future__ import annotations

import json
from binascii import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import RECORD

from leasecap._liveness.record import (
    _MISSING,
    MAX_BYTES,
    PENDING,
    VERSION,
    Child,
    Purpose,
    Record,
    checksum,
    decode_record,
    encode_record,
    name_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TEXTS = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=20)
"""With what stands for bytes that are no UTF-8: an argument or a directory may hold any."""

PROCESSES = st.builds(Child, st.integers(0, 2**31 - 1), st.integers(0, 2**63))
RECORDS = st.builds(
    Record,
    pool=TEXTS,
    pid=st.integers(1, 2**31 - 1),
    start=st.none() | st.integers(0, 2**63),
    uid=st.integers(0, 2**32),
    boot=st.none() | TEXTS,
    machine=st.none() | TEXTS,
    pid_ns=st.none() | TEXTS,
    time_ns=st.none() | TEXTS,
    host=TEXTS,
    local=st.booleans(),
    proof=st.sampled_from(["lock", "pid"]),
    label=st.none() | TEXTS,
    command=TEXTS,
    cwd=TEXTS,
    version=st.just(VERSION),
    child=st.none() | st.just(PENDING) | PROCESSES,
    agent=st.none() | PROCESSES,
    max_hold=st.none() | st.floats(0, allow_infinity=False),
    kill_after=st.none() | st.floats(0, allow_infinity=False),
    heartbeat=st.floats(1e-3, 1e9),
    stale_after=st.floats(1e-3, 1e9),
)
BYTES = encode_record(RECORD)


def changed(**fields: object) -> bytes:
    raw = {**json.loads(BYTES), **fields}
    return json.dumps({**raw, "check": checksum(raw)}).encode()


@given(RECORDS)
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


def test_a_record_truncated_anywhere_is_none() -> None:
    for length in range(len(BYTES)):
        assert decode_record(BYTES[:length]) is None


def test_a_record_with_one_bit_changed_is_none_or_says_the_same() -> None:
    # A digit of the pid that has changed names a process that doesn't run, and that overrules a lock that is held.
    for place in range(len(BYTES)):
        for bit in range(8):
            data = bytearray(BYTES)
            data[place] ^= 1 << bit
            assert decode_record(bytes(data)) in (None, RECORD), data


def test_a_record_larger_than_any_of_ours_is_none() -> None:
    fits = changed(more="x" * (MAX_BYTES - len(changed(more=""))))
    assert len(fits) == MAX_BYTES
    assert decode_record(fits) == RECORD
    assert decode_record(fits + b" ") is None


@pytest.mark.parametrize("field", Record._fields)
def test_a_missing_field_has_its_default_or_there_is_no_record(field: str) -> None:
    raw = json.loads(BYTES)
    del raw[field]
    raw["check"] = checksum(raw)
    found = decode_record(json.dumps(raw).encode())
    if field in ("pid", "proof"):
        assert found is None
    else:
        assert found is not None
        assert found._asdict() == {**RECORD._asdict(), field: _MISSING[field]}


@pytest.mark.parametrize("version", [1, 2, 70])
def test_a_later_version_that_only_adds_fields_is_read(version: int) -> None:
    text = json.dumps({**json.loads(BYTES), "version": version, "weight": [1, {"more": 2}]}).encode()
    raw = json.loads(text)
    del raw["check"]
    text = json.dumps(raw, separators=(",", ":")).encode()  # as `encode` would write it
    assert decode_record(b'%s,"check":%d}' % (text[:-1], crc32(text))) == RECORD._replace(version=version)


@pytest.mark.parametrize("field", Record._fields)
def test_a_field_of_another_type_makes_the_record_none(field: str) -> None:
    nullable = {"start", "boot", "machine", "pid_ns", "time_ns", "label", "child", "max_hold", "kill_after"}
    right: set[type] = (
        {str} if field in {"boot", "machine", "pid_ns", "time_ns", "label"} else {type(getattr(RECORD, field))}
    )
    if field == "start":
        right = {int}
    if field in {"max_hold", "kill_after", "heartbeat", "stale_after"}:
        right = {float, int}
    if field == "purpose":
        right = {type(None), dict}  # each part of it may be missing
    values: tuple[object, ...] = (None, True, 1, 1.5, "x", [], ["x"], {})
    for value in values:
        if type(value) in right and field not in {"version", "proof"}:
            continue
        if value is None and field in nullable:
            continue
        if field == "version" and type(value) is int:
            continue
        assert decode_record(changed(**{field: value})) is None, value


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 0},
        {"version": 1.0},
        {"version": "1"},
        {"pid": 0},
        {"pid": -1},
        {"pid": 2**31},
        {"proof": "promise"},
        {"purpose": {"agent": 1}},
        {"purpose": {"model": ["m"]}},
        {"child": {}},
        {"child": {"pid": 5}},
        {"child": {"start": 5}},
        {"child": {"pid": True, "start": 5}},
        {"child": {"pid": 5, "start": "5"}},
        {"child": {"pid": -5, "start": 5}},
        {"child": {"pid": 2**31, "start": 5}},
        {"max_hold": -1.0},
        {"max_hold": float("nan")},
        {"max_hold": float("inf")},
        {"kill_after": float("nan")},
        {"heartbeat": 0.0},
        {"heartbeat": float("inf")},
        {"stale_after": -1.0},
        {"stale_after": float("nan")},
        {"stale_after": 10**400},
        {"start": 10**400},
    ],
    ids=str,
)
def test_a_record_with_an_impossible_version_or_with_a_value_out_of_range_is_none(fields: dict[str, object]) -> None:
    # A pid of 0 or below would ask the kernel about a whole process group.
    assert decode_record(changed(**fields)) is None


def test_what_a_later_version_adds_within_this_one_is_ignored() -> None:
    assert decode_record(changed(weight=3, child={"pid": 5, "start": 6, "more": 7})) == RECORD._replace(
        child=Child(5, 6)
    )


@given(st.binary(max_size=200))
def test_no_bytes_are_an_error(data: bytes) -> None:
    assert decode_record(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(JSON | st.dictionaries(st.sampled_from(Record._fields), JSON))
def test_no_json_is_an_error(value: object) -> None:
    found = decode_record(changed(**value) if isinstance(value, dict) else json.dumps(value).encode())
    assert found is None or isinstance(found, Record)


@pytest.mark.parametrize("depth", [600, 990, 4000])
def test_nesting_that_can_be_read_and_not_written_is_none(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert decode_record(BYTES.replace(b'"label":null', b'"label":%s' % deep)) is None


@pytest.mark.parametrize("data", [b"[" * 9000, b'{"a":' * 3000, b"9" * 9000, b"\xff\xfe", b"NaN"])
def test_json_made_to_hurt_is_none(data: bytes) -> None:
    assert decode_record(data) is None


def test_a_purpose_comes_back_and_has_room_for_growth() -> None:
    with_purpose = RECORD._replace(purpose=Purpose("claude", "anthropic", None))
    assert decode_record(encode_record(with_purpose)) == with_purpose
    assert decode_record(changed(purpose={"agent": "claude", "later": 1})) == RECORD._replace(purpose=Purpose("claude"))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"label": "mine", "purpose": Purpose("claude", "anthropic", "m-1")}, "mine"),
        ({"label": None, "purpose": Purpose("claude", "anthropic", "m-1")}, "claude m-1"),
        ({"label": None, "purpose": Purpose("claude", "anthropic", None)}, "claude"),
        ({"label": None, "purpose": Purpose(None, "anthropic", None), "command": "python x.py"}, "python x.py"),
        ({"label": None, "command": "python x.py"}, "python x.py"),
    ],
)
def test_people_know_the_work_by_label_request_or_command(fields: dict[str, Any], name: str) -> None:
    assert name_of(RECORD._replace(**fields)) == name
