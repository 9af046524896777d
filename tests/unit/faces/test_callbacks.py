"""The caller's own code, as leasecap calls it: whatever it does, it does to itself alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from insides import own_entry_of, store_of
from referee import DEADLINE, until

import leasecap
from leasecap import Lease
from leasecap._runtime import runtime

pytestmark = pytest.mark.usefixtures("pool")


def take_away(lease: Lease, *, unseen: bool = False) -> None:
    """What a person's `leasecap release` does; ``unseen``: before the next heartbeat finds out."""
    if unseen:
        runtime.own.heartbeats.remove(own_entry_of(lease))
    assert store_of(lease).end(own_entry_of(lease).name)


def heartbeats_go_on() -> None:
    lease = leasecap.acquire("p", timeout=DEADLINE)
    take_away(lease)
    assert lease.lost.wait(DEADLINE)
    thread = runtime.own.heartbeats._thread
    assert thread is not None and thread.is_alive()


@pytest.mark.parametrize("error", [RuntimeError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_what_on_lost_raises_in_a_release_does_not_replace_the_blocks_error(
    error: BaseException, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leasecap._on_lost.HEAR_OUT", DEADLINE)

    def on_lost(lease: Lease) -> None:
        raise error

    with pytest.raises(ZeroDivisionError), leasecap.slot("p", on_lost=on_lost) as lease:
        take_away(lease, unseen=True)
        raise ZeroDivisionError
    (record,) = caplog.records
    assert "on_lost of lease" in record.message and repr(error) in record.message


@pytest.mark.parametrize("how", ["exits", "raises", "blocks"])
def test_whatever_on_lost_does_the_heartbeats_go_on(how: str) -> None:
    end, called = threading.Event(), threading.Event()

    def on_lost(lease: Lease) -> None:
        called.set()
        if how == "exits":
            sys.exit(lease)  # type: ignore[arg-type]  # as on_lost=sys.exit does
        if how == "raises":
            raise KeyboardInterrupt
        end.wait(DEADLINE)

    lease = leasecap.acquire("p", on_lost=on_lost)
    take_away(lease)
    assert called.wait(DEADLINE)
    heartbeats_go_on()
    end.set()


def test_an_on_lost_that_blocks_keeps_no_release_for_long() -> None:
    end = threading.Event()
    over: list[bool] = []
    lease = leasecap.acquire("p", on_lost=lambda lease: over.append(end.wait(DEADLINE)))
    take_away(lease, unseen=True)
    lease.release()
    assert not over
    assert leasecap.status("p").pools[0].in_flight == 0
    end.set()


def test_a_log_handler_that_blocks_does_not_stop_the_heartbeats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end, told = threading.Event(), threading.Event()

    def report(message: str) -> None:
        told.set()
        end.wait(DEADLINE)

    monkeypatch.setattr("leasecap._log.sink", report)
    with pytest.warns(ResourceWarning):
        leasecap.acquire("p")
    assert told.wait(DEADLINE)
    heartbeats_go_on()
    end.set()


def test_a_warning_comes_out_though_the_program_ends_right_after_it() -> None:
    warns = "from leasecap._log import log_warning_apart\nlog_warning_apart('the last word')"
    ended = subprocess.run([sys.executable, "-c", warns], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert ended.stderr == "the last word\n"


def test_a_log_handler_that_blocks_does_not_stop_the_end_of_a_program() -> None:
    blocks = "import threading\nfrom leasecap import _log\n_log.sink = lambda message: threading.Event().wait()\n"
    warns = blocks + "_log.log_warning_apart('the last word')"
    subprocess.run([sys.executable, "-c", warns], timeout=DEADLINE, check=True)


def test_what_on_wait_raises_ends_the_wait_and_reaches_the_caller() -> None:
    class Mine(OSError):
        pass

    def on_wait(waiting: object) -> None:
        raise Mine

    with leasecap.acquire("p"), pytest.raises(Mine):
        leasecap.acquire("p", borrow=False, on_wait=on_wait)
    assert leasecap.status("p").pools[0].waiting == 0


def test_a_loss_is_told_of_a_lease_that_others_refer_to_alone(root: Path) -> None:
    calls: list[str] = []
    leases = {"mine": leasecap.acquire("p", on_lost=lambda lease: calls.append(lease.id), max_hold=0.05)}
    until(lambda: bool(calls), "on_lost")
    assert leases["mine"].expired and calls == [leases["mine"].id]
    leases["mine"].release()
