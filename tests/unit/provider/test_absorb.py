"""What becomes of refusals, as pure decisions."""

from __future__ import annotations

import gzip
import json
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._control import KINDS, check_report
from leasecap._provider.absorb import (
    PoolReport,
    Refusal,
    clamp_retry_after,
    decide,
    refusal,
    refusal_of,
    to_report,
)
from leasecap._provider.errors import Fault

NOW = 1_800_000_000.0


def refused(status: int = 429, body: bytes = b"", /, **headers: str) -> Refusal | None:
    raw = [(name.replace("_", "-").title().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return refusal(status, raw, body, NOW)


def unified(answered: int = 429, /, **values: str) -> Refusal | None:
    return refused(answered, **{f"anthropic_ratelimit_unified_{name}": value for name, value in values.items()})


def decided(
    retry_after: float | None = None,
    *,
    quota: bool = False,
    elapsed: float = 0.0,
    attempt: int = 1,
    replayable: bool = True,
    jitter: float = 0.0,
) -> float | None:
    return decide(
        Refusal(429, retry_after, quota),
        elapsed=elapsed,
        absorb=60.0,
        attempt=attempt,
        replayable=replayable,
        jitter=jitter,
    )


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 403, 404, 408, 500, 502, 504])
def test_other_statuses_are_no_refusal(status: int) -> None:
    assert refused(status, retry_after="3") is None


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_refusal_has_its_retry_after(status: int) -> None:
    assert refused(status) == Refusal(status)
    assert refused(status, retry_after="3") == Refusal(status, 3.0)
    assert refused(status, retry_after=formatdate(NOW + 20, usegmt=True)) == Refusal(status, 20.0)
    assert refused(status, retry_after="soon") == Refusal(status)
    assert refused(status, retry_after="\xff") == Refusal(status)


def test_milliseconds_go_before_seconds() -> None:
    assert refused(retry_after_ms="1500", retry_after="2") == Refusal(429, 1.5)
    assert refused(retry_after_ms="x", retry_after="2") == Refusal(429, 2.0)


def test_402_is_a_quota() -> None:
    assert refused(402) == Refusal(402, None, True)


def test_a_quota_in_the_body_is_read() -> None:
    body = json.dumps({"error": {"type": "insufficient_quota", "code": "insufficient_quota"}}).encode()
    assert refused(429, body) == Refusal(429, None, True)
    assert refused(429, gzip.compress(body), content_encoding="gzip") == Refusal(429, None, True)
    assert refused(429, body[:-1]) == Refusal(429)
    assert refused(429, b"insufficient_quota") == Refusal(429)


def test_a_delay_in_the_body_is_read_where_no_header_has_one() -> None:
    body = json.dumps([{"error": {"code": 429, "details": [{"retryDelay": "34s"}]}}]).encode()
    assert refused(429, body) == Refusal(429, 34.0)
    assert refused(429, body, retry_after="5") == Refusal(429, 5.0)


def test_the_rate_limits_of_openai_are_no_quota() -> None:
    assert refused(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1s") == Refusal(429)


def test_a_plans_used_up_limit_is_a_quota() -> None:
    reset = str(int(NOW) + 9000)
    assert unified(status="rejected", reset=reset) == Refusal(429, 9000.0, True)
    assert unified(status="rejected") == Refusal(429, None, True)
    assert unified(reset=reset) == Refusal(429, 9000.0, True)
    assert unified(reset="0") == Refusal(429, 0.0, True)
    assert unified(status="rejected", reset="x") == Refusal(429, None, True)
    assert unified(status="rejected", reset="9" * 5000) == Refusal(429, None, True)


@pytest.mark.parametrize("state", ["allowed", "allowed_warning"])
def test_a_plan_with_something_left_is_no_quota(state: str) -> None:
    assert unified(status=state, reset=str(int(NOW) + 9000), overage_status="rejected") == Refusal(429)


def test_an_overload_of_the_provider_is_no_quota_whatever_the_plan_says() -> None:
    assert unified(529, status="rejected") == Refusal(529)


@pytest.mark.parametrize("status", [429, 500, 503, 504, 529])
def test_a_fault_of_the_provider_is_a_refusal(status: int) -> None:
    assert refusal_of(Fault(status, "x", 3.0)) == Refusal(status, 3.0)


def test_a_fault_that_says_quota_is_one() -> None:
    assert refusal_of(Fault(402, "billing_error")) == Refusal(402, None, True)
    assert refusal_of(Fault(403, "usage_not_included", quota=True)) == Refusal(403, None, True)


def test_a_fault_of_the_request_is_no_refusal() -> None:
    assert refusal_of(Fault(400, "invalid_request_error")) is None


def test_a_retry_after_is_obeyed() -> None:
    assert decided(3.0) == 3.0
    assert decided(60.0) == 60.0
    assert decided(10.0, attempt=5) == 15.0


def test_a_retry_after_beyond_what_is_left_passes() -> None:
    assert decided(60.1) is None
    assert decided(3.0, elapsed=57.5) is None
    assert decided(3.0, elapsed=57.0) == 3.0


def test_a_quota_passes_at_once() -> None:
    assert decided(1.0, quota=True) is None


def test_what_cannot_be_sent_again_passes() -> None:
    assert decided(1.0, replayable=False) is None


def test_pauses_double_up_to_15_s() -> None:
    assert [decided(attempt=attempt) for attempt in (1, 2, 3, 4, 5, 10_000)] == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_a_retry_after_of_nothing_is_obeyed_once() -> None:
    assert decided(0.0) == 0.0
    assert decided(0.0, attempt=3) == 4.0


@given(
    st.none() | st.floats(0, 1000),
    st.floats(0, 100),
    st.integers(1, 1000),
    st.floats(0, 1),
)
def test_absorbing_never_takes_longer_than_it_may(
    retry_after: float | None, elapsed: float, attempt: int, jitter: float
) -> None:
    found = decided(retry_after, elapsed=elapsed, attempt=attempt, jitter=jitter)
    if found is not None:
        assert elapsed + found <= 60.0
        assert found >= (retry_after or 0)


@given(st.floats(0, 1))
def test_jitter_shortens_a_pause_by_a_quarter_at_most(jitter: float) -> None:
    found = decided(attempt=3, jitter=jitter)
    assert found is not None
    assert 3.0 <= found <= 4.0


def test_to_report_says_what_a_refusal_is() -> None:
    assert to_report(429, Refusal(429, 3.0), ttfb=0.1) == PoolReport(429, 3.0, "concurrency")
    assert to_report(402, Refusal(402, None, True)) == PoolReport(402, None, "quota")
    assert to_report(200, Refusal(500)) == PoolReport(500, None, "concurrency")


def test_to_report_feeds_the_first_byte_of_good_answers_alone() -> None:
    assert to_report(200, ttfb=0.5) == PoolReport(200, ttfb=0.5)
    assert to_report(404, ttfb=0.5) is None
    assert to_report(500, ttfb=0.5) is None
    assert to_report(None) is None


def test_to_report_takes_a_late_first_byte_for_a_refusal() -> None:
    assert to_report(None, late=True) == PoolReport(kind="concurrency")


@given(
    st.none() | st.integers(100, 599),
    st.none() | st.builds(Refusal, st.integers(400, 599), st.none() | st.floats(0, 1e7), st.booleans()),
    st.none() | st.floats(0, 1e5),
    st.booleans(),
)
def test_the_pool_takes_every_report(
    status: int | None, refused: Refusal | None, ttfb: float | None, late: bool
) -> None:
    said = to_report(status, refused, ttfb=ttfb, late=late)
    if said is not None:
        check_report(**said._asdict())
        assert said.kind is None or said.kind in KINDS


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, 1),
        (0, 1),
        (0.2, 1),
        (1, 1),
        (1.1, 2),
        (58.5, 59),
        (59, 59),
        (3600, 59),
        (float("inf"), 59),
        (float("nan"), 1),
    ],
)
def test_the_gates_own_retry_after_is_from_1_to_59(seconds: float, expected: int) -> None:
    assert clamp_retry_after(seconds) == expected
