from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._durations import LONGEST, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("1.5", 1.5), ("0", 0), ("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h", 3600), (".5h", 1800), ("1.5m", 90)),
        *(("1m30s", 90), ("3m05s", 185), ("2h10m", 7800), ("1d", 86400), ("4d03h", 356400), ("1s5ms", 1.005)),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", ".", "5.", "-1", "+1", "nan", "inf", "infinity", "1e3", "1_0", " 1", "1 ", "5 m", "1,5", "1\n", "٣"),
        *("1x", "30m1h", "1m1m", "1.5h30m", "1m30", "m30s", "1h30", "1mms", "366d", "365d1s", "8761h", "9" * 400),
    ],
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="500ms, 30s, 1m30s, 5m, 1h, 1d"):
        parse_duration(text)


def test_a_refusal_is_short_and_harmless_to_a_terminal() -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration("\x1b[2J" + "9" * 10_000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0s"),
        (0.44, "0.4s"),
        (9.99, "9.9s"),
        (12.9, "12s"),
        (59.99, "59s"),
        (185, "3m05s"),
        (3599.9, "59m59s"),
        (7800, "2h10m"),
        (86399, "23h59m"),
        (4 * 86400 + 3 * 3600 + 59, "4d03h"),
    ],
)
def test_durations_are_shown_short_and_never_rounded_up(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 8760 * 3600 * 1000))
def test_every_number_of_milliseconds_in_a_year_can_be_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(f"{milliseconds}ms") == pytest.approx(seconds)
    assert parse_duration(f"{seconds:.3f}s") == pytest.approx(seconds)
    assert parse_duration(f"{seconds:.3f}") <= LONGEST


@given(st.floats(0, LONGEST))
def test_what_is_shown_can_be_read_back(seconds: float) -> None:
    unit = next(unit for bound, unit in ((10, 0.1001), (3600, 1), (86400, 60), (math.inf, 3600)) if seconds < bound)
    assert 0 <= seconds - parse_duration(format_duration(seconds)) < unit


@given(st.text(max_size=8))
def test_no_text_gives_a_duration_that_cannot_be_waited_for(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= LONGEST
