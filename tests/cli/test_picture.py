"""The picture of `status`: what fits on a screen of so many rows and columns."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._status.model import Holder, HttpRequest, ModelLatency, Percentiles, PoolStatus, Status, Waiter
from leasecap.cli._picture import aged, render
from leasecap.cli._tables import cells, text
from leasecap.cli._watch import is_change


def holder(number: int, **more: object) -> Holder:
    found = Holder(
        id=f"{number:016x}",
        state="held",
        pid=4711,
        child=None,
        host=None,
        label=f"agent {number}",
        command=None,
        cwd=None,
        stopped=False,
        granted_at=None,
        held_for=1.0,
        heartbeat_age=2.0,
        alive=True,
        evidence="lock held",
        borrows_from=None,
        limit=None,
        max_hold=None,
        over_max_hold=None,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def waiter(number: int, **more: object) -> Waiter:
    found = Waiter(
        id=f"{number:016x}",
        state="waiting",
        pid=4712,
        host=None,
        label=f"waiter {number}",
        command=None,
        cwd=None,
        position=number,
        priority=0,
        asked_at=None,
        waited=3.0,
        alive=True,
        evidence="lock held",
        limit=None,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def pool(name: str = "p", holders: int = 0, waiters: int = 0, **more: object) -> PoolStatus:
    found = PoolStatus(
        pool=name,
        path=f"/root/pools/{name}",
        limit=61,
        limit_source="config.toml",
        in_flight=holders,
        waiting=waiters,
        holders=tuple(map(holder, range(holders))),
        waiters=tuple(map(waiter, range(1, waiters + 1))),
        stable=True,
        lock="os",
        error=None,
        feedback=None,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def picture(*pools: PoolStatus, config_error: str | None = None) -> Status:
    return Status(1, "2026-01-01T00:00:00.000Z", "/root", pools, config_error)


def shown(rows: int | None, columns: int | None, found: Status) -> list[str]:
    return list(map(text, render(rows, columns, found)))


def more(lines: list[str]) -> int:
    return sum(int(found[1]) for line in lines if (found := re.search(r"\.\.\. (\d+) more", line)))


def test_render_shows_all_where_it_fits() -> None:
    found = picture(pool(holders=3, waiters=2), pool("q"))
    lines = shown(None, None, found)
    assert shown(len(lines), 200, found) == lines
    assert lines[1] == ""


def test_render_counts_what_does_not_fit() -> None:
    lines = shown(24, 80, picture(pool(holders=61)))
    assert len(lines) == 24
    assert lines[1].startswith("p  61/61 in flight, 0 waiting")
    assert lines[2].split()[0] == "HOLDER"
    assert lines[3].endswith("agent 0")
    assert lines[-1] == "  ... 41 more"


def test_render_counts_the_dead_at_the_head() -> None:
    dead = {"alive": False, "evidence": "pid gone"}
    found = replace(pool(), in_flight=3, dead_slots=2, waiting=2, waiters=(waiter(1), waiter(2, **dead)))
    assert shown(None, 80, picture(found))[2].startswith(
        "p  3/61 in flight (2 of them dead), 2 waiting (1 of them dead)   limit: "
    )


def test_render_gives_each_table_its_share() -> None:
    lines = shown(24, 80, picture(pool("a", 3, 50), pool("b", 50, 1)))
    assert len(lines) == 24
    assert [line for line in lines if "agent 2" in line], "a small table is whole"
    assert sum("waiter" in line for line in lines) + sum("agent" in line for line in lines) + more(lines) == 104
    assert sum("... " in line for line in lines) == 2


def test_render_names_every_pool_before_any_lease() -> None:
    lines = shown(10, 80, picture(*(pool(f"pool{number}", 5) for number in range(8))))
    assert [line.split()[0] for line in lines[1:] if "flight" in line] == [f"pool{number}" for number in range(8)]
    assert more(lines) == 5, "one line is left"
    assert "5 more holders" in lines[2]


def test_render_counts_one_as_one() -> None:
    assert shown(4, 80, picture(pool("a", 1), pool("b")))[2] == "  ... 1 more holder"


def test_render_counts_pools_that_do_not_fit() -> None:
    lines = shown(10, 80, picture(*(pool(f"pool{number}", 5) for number in range(20))))
    assert len(lines) == 10
    assert lines[-1] == "  ... 12 more pools"


def test_render_keeps_what_is_wrong() -> None:
    found = picture(pool(holders=61, error="the state can't be read", stable=False), config_error="bad line\nremedy")
    lines = shown(12, 80, found)
    assert {"bad line", "remedy", "  the state can't be read"} <= set(lines)
    assert any("changed while it was read" in line for line in lines)


def test_render_cuts_wide_characters_by_columns() -> None:
    found = picture(replace(pool(), holders=(holder(1, label="漢字" * 40),)))
    lines = shown(24, 80, found)
    assert all(cells(line) <= 80 for line in lines)
    assert lines[-1].endswith("…")


def test_render_lines_up_columns_below_wide_characters() -> None:
    rows = (holder(1, pid=1, host="機械"), holder(2, pid=2, host="ab"))
    lines = shown(None, None, picture(replace(pool(), holders=rows)))[-2:]
    assert len({cells(line[: line.index("lock held")]) for line in lines}) == 1


@given(
    rows=st.integers(1, 60),
    columns=st.integers(1, 200),
    sizes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
)
def test_render_never_exceeds_the_screen(rows: int, columns: int, sizes: list[tuple[int, int]]) -> None:
    found = picture(*(pool(f"p{number}", *size) for number, size in enumerate(sizes)))
    lines = shown(rows, columns, found)
    assert len(lines) <= rows
    assert all(cells(line) <= columns for line in lines)
    if columns == 200 and not any("more pool" in line for line in lines) and len(sizes) + 1 < rows:
        listed = sum("agent" in line or "waiter " in line for line in lines)
        left = sum(size[0] + size[1] for size in sizes) - listed - more(lines)
        assert left == 0 or len(lines) == rows, "what isn't counted has no room for a line"


def request(phase: str | None = "sent", **more: object) -> HttpRequest:
    found = HttpRequest("claude", "anthropic", "claude-sonnet-4-5", phase, 1.0 if phase == "streaming" else None)
    return replace(found, **more)  # type: ignore[arg-type]


def lines(*holders: Holder, waiters: tuple[Waiter, ...] = (), columns: int | None = None) -> list[str]:
    found = picture(replace(pool(), holders=holders, waiters=waiters))
    return [text(line) for line in render(99, columns, found) if "  " in text(line)]


def test_a_request_is_shown_with_agent_model_provider_and_answer() -> None:
    sent, streaming = (holder(at, label=None, request=request(phase)) for at, phase in enumerate(("sent", "streaming")))
    unknown, other = holder(2, label="mine", request=request(None)), holder(3)
    _, head, *rows = lines(sent, streaming, unknown, other)
    answer = head.index("ANSWER")
    assert [row[answer:].split()[0] for row in rows] == ["awaited", "comes", "?", "-"]
    shown = "claude claude-sonnet-4-5 at anthropic"
    assert [row[head.index("COMMAND") :] for row in rows] == [shown, shown, f"mine: {shown}", "agent 3"]
    _, head, row = lines(waiters=(waiter(1, label=None, request=request("queued", model=None)),))
    assert row[head.index("COMMAND") :] == "claude at anthropic"


def test_without_requests_there_is_no_column_for_answers() -> None:
    assert "ANSWER" not in "".join(lines(holder(1)))


def test_of_an_unknown_agent_the_command_is_shown() -> None:
    unknown = request(agent=None, model=None, provider=None)
    assert lines(holder(1, label=None, command="leasecap gate", request=unknown))[-1].endswith("  leasecap gate")


def test_agent_and_model_are_in_sight_on_80_columns() -> None:
    where = "/home/me/src/some-project/worktree-2"
    one = holder(1, label=None, cwd=where, request=request())
    queued = waiter(1, label=None, cwd=where, request=request("queued"))
    _, head, row, below, beneath = lines(one, waiters=(queued,), columns=80)
    assert "awaited" in row and "…orktree-2" in row
    for line in (row, beneath):
        assert len(line) <= 80
        assert "claude claude-sonn" in line
    assert head.split() == ["HOLDER", "PID", "HELD", "ANSWER", "IN", "COMMAND"]
    assert below.split() == ["WAITER", "PID", "WAITED", "POS", "PRIO", "IN", "COMMAND"]
    assert "BEAT" in lines(one, columns=200)[1]


def test_evidence_with_something_to_tell_stays_on_80_columns() -> None:
    one = holder(1, label=None, cwd="/home/me/src/some-project", request=request(), stopped=True)
    assert "lock held; stopped" in lines(one, columns=80)[2]


def test_aged_moves_every_age() -> None:
    found = aged(picture(replace(pool(holders=1, waiters=1), holders=(holder(1, over_max_hold=5.0),))), 10.0)
    (one,), (other,) = found.pools[0].holders, found.pools[0].waiters
    assert (one.held_for, one.heartbeat_age, one.over_max_hold, other.waited) == (11.0, 12.0, 15.0, 13.0)


def test_aged_leaves_what_is_unknown() -> None:
    found = aged(picture(replace(pool(), holders=(holder(1, held_for=None, heartbeat_age=None),))), 10.0)
    assert found.pools[0].holders[0].held_for is None


@pytest.mark.parametrize(
    "path",
    [
        "config.toml",
        "pools",
        "pools/p-1",
        "pools/p-1/queue/0 1",
        "pools/p-1/leases/0 1",
        "pools/p-1/leases/0 1/info.json",
    ],
)
def test_is_change_of_what_the_picture_shows(path: str) -> None:
    assert is_change(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "pools/p-1/leases/0 1/alive",
            "pools/p-1/queue/0 1/alive",
            "pools/p-1/sweep",
            "pools/p-1/lock",
            "config.lock",
        ),
        *(
            "pools/p-1/staging/0 1",
            "pools/p-1/trash/0 1",
            "pools/p-1/lock.d/token",
            "pools/p-1/latency/1.json",
            "pools/.new-1",
            "wake/1/.wakeup",
        ),
        *("wake/1/asked", "wake/.1"),
    ],
)
def test_is_change_of_nothing_that_it_shows(path: str) -> None:
    assert not is_change(path)


# -- how long requests took -------------------------------------------------------------------------------------------


def took(hour: int, model: str = "opus", streamed: bool = True, first: int = 10, whole: int = 9) -> ModelLatency:
    return ModelLatency(
        f"2026-11-26T{hour:02}:00:00Z",
        model,
        streamed,
        Percentiles(first, 2, 1.5, 31.0, 103.0, 131.0) if first else Percentiles(0, 0, None, None, None, None),
        Percentiles(whole, 3, 24.0, 109.0, 242.0, 3700.0) if whole else Percentiles(0, 0, None, None, None, None),
    )


@pytest.mark.parametrize("columns", [80, 200, None])
def test_latency_is_a_table_for_each_model_the_last_hour_first(columns: int | None) -> None:
    found = pool(holders=2, waiters=1, latency=(took(9), took(9, "haiku", False, 300), took(10), took(10, whole=0)))
    lines = shown(None, columns, picture(found))
    assert lines[3:] == [
        "  haiku",
        "  HOUR (UTC)   UNTIL       N    >120s  P50   P90    P99    MAX",
        "  11-26 09:00  first byte  300  2      1.5s  31s    1m43s  2m11s",
        "  11-26 09:00  end         9    3      24s   1m49s  4m02s  1h01m",
        "  opus, streamed",
        "  HOUR (UTC)   UNTIL       N   >120s  P50   P90    P99    MAX",
        "  11-26 10:00  first byte  10  2      1.5s  31s    1m43s  2m11s",
        "  11-26 10:00  first byte  10  2      1.5s  31s    1m43s  2m11s",
        "  11-26 10:00  end         9   3      24s   1m49s  4m02s  1h01m",
        "  11-26 09:00  first byte  10  2      1.5s  31s    1m43s  2m11s",
        "  11-26 09:00  end         9   3      24s   1m49s  4m02s  1h01m",
    ]


def test_latency_of_odd_models_fits_80_columns() -> None:
    models = ("", "x" * 500, "\x1b[2J", "模型" * 40, "\ud800")
    lines = shown(None, 80, picture(pool(latency=tuple(took(9, model, first=10**9) for model in models))))
    assert max(cells(line) for line in lines[:9]) <= 80
    assert all(line.isprintable() for line in lines)
    assert "  (model not known), streamed" in lines and any(line.endswith("…, streamed") for line in lines)


def test_latency_on_a_screen_is_cut_at_the_oldest_hours() -> None:
    lines = shown(12, 80, picture(pool(latency=tuple(took(hour) for hour in range(24)))))
    assert len(lines) == 12 and lines[-1].startswith("  ... ")
    assert lines[4].startswith("  11-26 23:00")
    assert more(lines) + sum(line.startswith("  11-26") for line in lines) == 48


def test_where_nothing_is_known_of_latency_that_is_said() -> None:
    lines = shown(None, 80, picture(pool(holders=2, latency=())))
    assert lines[-1] == "  nothing is known of how long requests took in the last 48 hours"


def test_latency_warnings_and_errors_are_shown_with_who_holds() -> None:
    found = pool(holders=1, latency_warnings=("opus: first byte p99",), latency_error="/a/latency/1.json \x1b is no")
    lines = shown(None, 80, picture(found))
    assert lines[3:5] == ["  opus: first byte p99", "  /a/latency/1.json \\x1b is no"] and lines[-1].endswith("agent 0")
