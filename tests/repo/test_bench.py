"""The figures of scripts/bench: computed from times alone, and put where they belong."""

from __future__ import annotations

import argparse
import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from places import REPOSITORY
from redis_server import program

from _bench import __main__ as bench
from _bench import contention, measures, picture, report, single, targets
from _bench.gate import added, usage
from _bench.gate.client import is_whole
from _bench.measures import Hold
from _bench.server import process, work
from _bench.server.relay import Relay
from _bench.workloads import gate_workloads, server_workloads, workloads

# Two slots, held for a second each: the first two at once, the third 0.1 s after the first ended, the fourth 0.3 s.
HOLDS = [
    Hold(asked=0.0, granted=0.0, ended=1.0),
    Hold(asked=0.1, granted=0.1, ended=1.1),
    Hold(asked=0.3, granted=1.4, ended=2.4),
    Hold(asked=0.4, granted=1.1, ended=2.1),
]


def test_utilisation_is_the_least_time_over_the_time_it_took() -> None:
    assert measures.utilisation(HOLDS, 2, 1.0) == pytest.approx(2 / 2.4)


def test_each_end_is_paired_with_the_grant_that_it_made_room_for() -> None:
    assert measures.hand_offs(HOLDS, 2) == pytest.approx([0.1, 0.3])


def test_a_grant_that_nobody_waited_for_is_no_hand_off() -> None:
    late = [*HOLDS[:2], Hold(asked=5.0, granted=5.1, ended=6.0)]
    assert measures.hand_offs(late, 2) == []


def test_who_asked_later_and_was_granted_earlier_has_overtaken() -> None:
    assert measures.overtakings(HOLDS) == 1 / 4


def test_the_most_at_once_are_counted_and_an_end_makes_room_at_once() -> None:
    assert measures.most_at_once(HOLDS) == 2
    assert measures.most_at_once([*HOLDS, Hold(0.0, 0.5, 0.6)]) == 3


@pytest.mark.parametrize(("share", "found"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0)])
def test_a_percentile_is_one_of_the_values(share: float, found: float) -> None:
    assert measures.percentile([4.0, 1.0, 3.0, 2.0], share) == found
    assert math.isnan(measures.percentile([], share))


def test_ratios_are_to_leasecap_and_what_never_came_has_none() -> None:
    assert report.table({"leasecap": {"p50 ms": 2.0}, "other": {"p50 ms": 5.0}, "dead": {"p50 ms": math.inf}}) == [
        ["", "p50 ms", "ratio"],
        ["leasecap", "2.00", "1.00x"],
        ["other", "5.00", "2.50x"],
        ["dead", "never", "-"],
    ]


def test_a_target_without_its_peer_is_left_out() -> None:
    found = {"A": {"leasecap": {"p50 us": 300.0}, "filelock_lease": {"p50 us": 600.0}}}
    (verdict,) = targets.verdicts(found)
    assert (verdict.measured, verdict.word) == (0.5, "met")


def test_the_figures_replace_those_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.put_into(page, "new")
    assert page.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="lost the marks"):
        report.put_into(page, "new")


def test_the_picture_shows_every_limiter_that_was_measured() -> None:
    figures = {"utilisation": 0.9, "hand-off p50 ms": 1.0, "hand-off p99 ms": 5.0}
    drawn = picture.draw({"C": {"leasecap": figures, "portalocker": figures}})
    assert drawn.count(">leasecap<") == drawn.count(">portalocker<") == 1
    assert picture.draw({"A": {}}) == ""


def test_workloads_have_a_row_with_pipes_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}
    monkeypatch.setattr(contention, "measure", lambda work, base, names: asked.update({base: names}))
    monkeypatch.setattr(single, "idle", lambda waiters, seconds, base, names: asked.update({base: names}))
    for name in ("B", "C", "D", "E", "F"):
        workloads(tiny=True)[name].run(name, ["leasecap"])
    assert {name: "leasecap_no_pipes" in names for name, names in asked.items()} == {
        **dict.fromkeys("BCDF", True),
        "E": False,
    }


def test_the_page_has_its_marks() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    for mark in (
        *(report.BEGIN, report.END),
        *(report.GATE_BEGIN, report.GATE_END),
        *(report.SERVER_BEGIN, report.SERVER_END),
    ):
        assert page.count(mark) == 1


def test_use_of_a_cap_ends_with_the_last_answer() -> None:
    assert usage.used([(1.0, 2.0), (1.0, 3.0), (2.0, 3.0)], 2) == pytest.approx(1.0)
    assert usage.used([(1.0, 2.0), (4.0, 5.0)], 2) == pytest.approx(0.25)
    assert math.isnan(usage.used([], 2))


def test_what_a_way_adds_is_the_least_difference_of_a_round() -> None:
    took = [{added.DIRECT: [0.001], "x": [0.004]}, {added.DIRECT: [0.005], "x": [0.007]}]
    assert added.least(took, "x", 0.5) == pytest.approx(2.0)
    assert added.least(took, added.DIRECT, 0.5) == pytest.approx(1.0)


def test_an_answer_is_whole_with_its_length_or_its_last_chunk() -> None:
    assert is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2", b"ab")
    assert not is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nX: y", b"ab")
    assert is_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"1\r\na\r\n0\r\n\r\n")
    assert not is_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", b"1\r\na\r\n")


def test_targets_of_the_gate_are_differences_to_a_plain_run() -> None:
    figures = {
        "leasecap run": {"ms until the command runs": 70.0},
        added.GATE: {"ms until the command runs": 80.0, "ms until the first answer": 250.0},
    }
    assert [verdict.measured for verdict in targets.verdicts({"N": figures})] == [10.0, 180.0]


def test_no_workload_has_two_meanings_and_the_tiny_gate_needs_no_agent() -> None:
    names = [*workloads(tiny=False), *gate_workloads(tiny=False), *server_workloads(tiny=False)]
    assert len(names) == len({*names})
    assert {*gate_workloads(tiny=False)} - {*gate_workloads(tiny=True)} == {"P", "Q"}
    assert {*server_workloads(tiny=False)} > {*server_workloads(tiny=True)} >= {"T", "W", "Y", "Z"}


def test_targets_on_a_server_are_ratios_to_files_and_round_trips() -> None:
    files = {"utilisation": 0.9, "hand-off p50 ms": 1.0}
    on_a_server = {"utilisation": 0.85, "hand-off p50 ms": 3.0}
    figures = {
        "T": {"leasecap_redis": {"p50 us": 300.0}, "redis_pings": {"p50 us": 200.0}},
        "V": {"leasecap_redis": on_a_server, "leasecap": files},
        "Z": {"leasecap_redis": {"% of a core": 0.5, "server, % of a core": 1.5}},
    }
    found = [(verdict.workload, verdict.measured, verdict.word) for verdict in targets.verdicts(figures)]
    assert found == [
        ("T", 1.5, "met"),
        ("V", 0.85, "missed"),
        ("V", pytest.approx(0.05), "met"),
        ("V", 3.0, "missed"),
        ("Z", 0.5, "met"),
        ("Z", 1.5, "missed"),
    ]


def test_a_table_on_a_server_has_its_ratios_to_the_pool_there() -> None:
    rows = report.table({"leasecap": {"p50 us": 2.0}, "leasecap_redis": {"p50 us": 4.0}})
    assert rows[1:] == [["leasecap", "2.00", "0.50x"], ["leasecap_redis", "4.00", "1.00x"]]


def test_a_network_is_measured_without_files() -> None:
    assert work.on_a_server(["leasecap_redis", "leasecap", "redis_blpop"]) == ["leasecap_redis", "redis_blpop"]


@pytest.mark.parametrize(
    ("words", "begin"),
    [({"gate": True, "store": None}, report.GATE_BEGIN), ({"gate": False, "store": "redis"}, report.SERVER_BEGIN)],
    ids=["gate", "redis"],
)
def test_figures_of_a_family_stand_between_its_own_marks(words: dict[str, object], begin: str) -> None:
    assert bench.marks(argparse.Namespace(**words))[0] == begin
    assert bench.marks(argparse.Namespace(gate=False, store=None)) == (report.BEGIN, report.END)


def test_a_relay_takes_its_time_in_both_directions_and_loses_nothing() -> None:
    delay, sent = 0.02, bytes(range(256)) * 2000
    stop, stopped = os.pipe()[::-1]
    with socket.create_server(("127.0.0.1", 0)) as echo:
        relay = Relay(echo.getsockname()[1], delay)
        serving = threading.Thread(target=relay.serve, args=(stopped,))
        serving.start()
        try:
            with socket.create_connection(("127.0.0.1", relay.port), timeout=20) as client:
                server, _ = echo.accept()
                with server:
                    server.settimeout(20)
                    began = time.monotonic()
                    client.sendall(b"?")
                    assert server.recv(1) == b"?"
                    server.sendall(b"!")
                    assert client.recv(1) == b"!"
                    assert time.monotonic() - began >= 2 * delay
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    with server.makefile("rb") as file:
                        assert file.read() == sent
        finally:
            os.write(stop, b".")
            serving.join()
            relay.close()
            os.close(stop)
            os.close(stopped)


def test_the_server_of_a_run_is_gone_after_it_however_it_ends(tmp_path: Path) -> None:
    program("redis")
    with pytest.raises(KeyboardInterrupt), process.running(str(tmp_path)) as server:
        assert os.environ[process.PORT] == str(server.port)
        raise KeyboardInterrupt
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
    assert process.PORT not in os.environ
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program("redis")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(process, "free_port", lambda: taken.getsockname()[1])
        monkeypatch.setattr(process, "PATIENCE", 0.01)
        with pytest.raises(RuntimeError, match="Address already in use"), process.running(str(tmp_path)):
            pass


def test_a_run_without_a_server_says_how_to_get_one() -> None:
    command = [sys.executable, "-m", "_bench", "--store", "redis"]
    done = subprocess.run(
        command, cwd=REPOSITORY / "scripts", env=os.environ | {"PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "apt install redis-server" in done.stderr
