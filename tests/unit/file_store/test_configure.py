"""An edit of config.toml reaches the pools that are open, in every key."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from helper_process import Helper
from insides import file_store, own_entry_of

import leasecap
from leasecap import _log
from leasecap._config import config
from leasecap._decisions.places import LEASES, QUEUE
from leasecap._feedback.rules import Rules
from leasecap._file_store.heartbeats import Heartbeats
from leasecap._liveness.record import Child
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config
    from leasecap._file_store.store import Store
    from leasecap._host.directory import Directory
    from leasecap._liveness.record import Record

FEEDBACK = {
    "max_pause": ("7", 7.0),
    "stagger": ("0.5", 0.5),
    "stagger_after_idle": ("9", 9.0),
    "adaptive": ('"off"', "off"),
    "backoff": ("0.5", 0.5),
    "min_limit": ("2", 2),
    "probe_interval": ("5", 5.0),
    "latency_guard": ("true", True),
    "cooldown": ("0.25", 0.25),
    "usage_command": ('["a", "b"]', ("a", "b")),
    "usage_interval": ("3", 3.0),
    "usage_timeout": ("4", 4.0),
}


OVER_HTTP = {
    "usage_url": "https://a.example/v1/usage",
    "usage_field": "n",
    "usage_limit_field": "limit",
    "usage_key_env": "EXAMPLE_KEY",
    "usage_key_header": "x-api-key",
}


def write(root: Path, text: str) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_text("[pools.p]\n" + text)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is reported."""
    said: list[str] = []
    monkeypatch.setattr(_log, "sink", said.append)
    return said


@pytest.fixture
def store(root: Path) -> Store:
    write(root, "limit = 2\n")
    return file_store("p")


def recorded(store: Store, where: str, name: str) -> tuple[float, float] | None:
    found: Record | None = store.observer.record(where, name)
    return None if found is None else (found.heartbeat, found.stale_after)


def until(what: object) -> None:
    end = time.monotonic() + 30
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_all_feedback_rules_are_covered_here() -> None:
    assert {*FEEDBACK, *OVER_HTTP} == {*Rules._fields} - {"usage_source"}, "which pools on servers alone have"


@pytest.mark.parametrize("key", FEEDBACK)
def test_a_rule_of_feedback_follows_an_edit(root: Path, store: Store, key: str) -> None:
    assert store.feedback is not None
    text, value = FEEDBACK[key]
    write(root, f"limit = 2\n{key} = {text}\n")
    store.refresh()
    assert store.feedback.terms.rules == Rules()._replace(**{key: value})  # type: ignore[arg-type]


def test_how_the_provider_is_asked_over_http_follows_an_edit(root: Path, store: Store) -> None:
    assert store.feedback is not None and not store.feedback.terms.gated
    write(root, "limit = 2\n" + "".join(f'{key} = "{value}"\n' for key, value in OVER_HTTP.items()))
    store.refresh()
    assert store.feedback.terms.rules == Rules()._replace(**OVER_HTTP)  # type: ignore[arg-type]
    assert store.feedback.terms.gated


def test_limit_reclaim_and_intervals_follow_an_edit(root: Path, store: Store) -> None:
    write(root, 'limit = 1\nreclaim = "force"\nstale_after = 6\nheartbeat = 2\n')
    store.refresh()
    assert (store.policy.configured, store.policy.force) == (1, True)
    assert (store.observer.stale_after, store.observer.heartbeat) == (6.0, 2.0)
    write(root, "limit = 1\n")
    store.refresh()
    assert (store.policy.force, store.observer.stale_after, store.observer.heartbeat) == (False, 30.0, 10.0)


def test_timeout_priority_and_max_hold_are_for_those_who_come_after_an_edit(root: Path, store: Store) -> None:
    first = leasecap.acquire("p")
    write(root, "limit = 1\nqueue_timeout = 0.05\npriority = 7\nmax_hold = 60\nkill_after = 3\n")
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", borrow=False)
    assert first.hold is None
    first.release()
    with leasecap.acquire("p") as second:
        assert second.hold is not None
        assert (second.hold.max_hold, second.hold.kill_after) == (60.0, 3.0)
        [name] = store.directory.list(LEASES)
        assert name.startswith("493-")  # a priority of 7


def test_a_held_lease_beats_as_its_record_says_and_follows_an_edit(root: Path, store: Store) -> None:
    write(root, "limit = 2\nstale_after = 0.3\nheartbeat = 0.1\n")
    lease = leasecap.acquire("p")
    [name] = store.directory.list(LEASES)
    assert recorded(store, LEASES, name) == (0.1, 0.3)
    write(root, "limit = 2\nstale_after = 60\nheartbeat = 0.2\n")
    until(lambda: recorded(store, LEASES, name) == (0.2, 60.0))
    [beating] = runtime.own.heartbeats._beating.values()
    before = beating.due
    until(lambda: beating.due != before)
    assert before + 0.2 <= beating.due <= time.monotonic() + 0.2
    write(root, "limit = 2\nstale_after = 300\nheartbeat = 100\n")  # no beat is missed by those who read the old record
    until(lambda: recorded(store, LEASES, name) == (100.0, 300.0))
    until(lambda: beating.due - time.monotonic() > 90)
    lease.release()


def test_where_the_new_intervals_can_not_be_noted_the_old_ones_are_kept(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeats, "start", lambda self: True)  # the test is its thread
    lease = leasecap.acquire("p")
    write(root, "limit = 2\nstale_after = 300\nheartbeat = 100\n")
    store.refresh()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.directory), "replace", full)
        assert store.beat(own_entry_of(lease))
    assert own_entry_of(lease).record.heartbeat == 10.0
    assert store.beat(own_entry_of(lease))
    assert own_entry_of(lease).record.heartbeat == 100.0
    lease.release()


@pytest.mark.posix("OS locks")
def test_a_ticket_beats_as_its_record_says_and_follows_an_edit(root: Path, store: Store) -> None:
    write(root, "limit = 1\nstale_after = 0.3\nheartbeat = 0.1\n")
    with leasecap.acquire("p"):
        waiter = Helper("import leasecap\nleasecap.acquire('p')")
        with waiter.process:
            until(lambda: store.directory.list(QUEUE))
            [name] = store.directory.list(QUEUE)
            write(root, "limit = 1\nstale_after = 3\nheartbeat = 1\n")
            until(lambda: recorded(store, QUEUE, name) == (1.0, 3.0))
            waiter.end()


def test_a_command_noted_while_the_intervals_are_rewritten_stays_noted(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both rewrite the record: the heartbeat thread, and the holder's own.
    lease = leasecap.acquire("p")
    write(root, "limit = 2\nstale_after = 60\nheartbeat = 20\n")
    store.refresh()
    noting = threading.Thread(target=lease.note_child, args=(Child(1, 2),))
    replace = type(store.directory).replace

    def with_a_note_meanwhile(directory: Directory, name: str, data: bytes) -> None:
        if not noting.ident:
            noting.start()
            noting.join(0.2)
        replace(directory, name, data)

    monkeypatch.setattr(type(store.directory), "replace", with_a_note_meanwhile)
    store.beat(own_entry_of(lease))
    noting.join()
    [name] = store.directory.list(LEASES)
    found = store.observer.record(LEASES, name)
    assert found == own_entry_of(lease).record
    assert found is not None
    assert (found.child, found.heartbeat) == (Child(1, 2), 20.0)
    lease.release()


@pytest.mark.posix("OS locks")
def test_an_edit_of_the_kind_of_lock_is_told_with_the_remedy(root: Path, store: Store, told: list[str]) -> None:
    write(root, 'limit = 2\nlock = "directory"\n')
    store.refresh()
    store.refresh()
    until(lambda: len(told) == 1)
    assert 'lock = "directory"' in told[0]
    assert f"remove {store.directory.path}" in told[0]
    write(root, 'limit = 2\nlock = "os"\n')
    store.refresh()
    write(root, 'limit = 2\nlock = "directory"\n')
    store.refresh()
    until(lambda: len(told) == 2)


@pytest.mark.posix("OS locks")
def test_a_log_handler_that_blocks_keeps_no_heartbeat(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    called, go_on = threading.Event(), threading.Event()

    def block(message: str) -> None:
        called.set()
        go_on.wait(60)

    monkeypatch.setattr(_log, "sink", block)
    write(root, 'limit = 2\nlock = "directory"\n')
    store.refresh()  # as a heartbeat does
    assert called.wait(60) and not go_on.is_set()
    go_on.set()


@pytest.mark.posix("OS locks")
def test_a_removed_limit_is_the_same_error_for_who_waits_as_for_who_comes(root: Path) -> None:
    write(root, "limit = 1\n")
    with leasecap.acquire("p"):
        waiter = Helper(
            "import leasecap\ntry: leasecap.acquire('p')\nexcept leasecap.ConfigError as error: print(error.message)"
        )
        with waiter.process:
            until(lambda: leasecap.status("p").pools[0].waiting == 1)
            write(root, "")
            assert waiter.hear() == "pool 'p' has no limit"
        with pytest.raises(leasecap.ConfigError, match="'p' has no limit"):
            leasecap.acquire("p", borrow=False)
    assert leasecap.status("p").pools[0].waiting == 0


def test_a_broken_file_is_parsed_once_and_not_at_each_look(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, 'limit = "two"\n')
    parsed: list[str] = []
    parse = config.parse_config

    def counted(path: str, text: str | None) -> Config:
        parsed.append(path)
        return parse(path, text)

    monkeypatch.setattr("leasecap._config.config_file.parse_config", counted)
    for _ in range(5):
        with pytest.raises(leasecap.ConfigError, match="can't be used"):
            leasecap.acquire("p")
    assert len(parsed) == 1
    write(root, "limit = 3\n")
    leasecap.acquire("p").release()
