"""Which `leasecap gate` runs on a root: who is noted and who is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leasecap._errors import StoreError
from leasecap._file_store.standing_gates import StandingGates
from leasecap._host.effects import Effects
from leasecap._runtime import runtime
from leasecap._store.picture import StandingGate

ME = runtime.own.effects.me()
SHOWN = StandingGate(ME.pid, 4283, {"A": "a/v1"}, {"a": ("https://a.example.com", "a/v1")})


@pytest.fixture
def gates(root: Path) -> StandingGates:
    (root / "gate").mkdir(mode=0o700, parents=True)
    gates = StandingGates(Effects(), str(root))
    gates.note(4283, SHOWN.variables, SHOWN.upstreams)
    return gates


def test_it_is_shown_from_its_note_until_it_is_forgotten(gates: StandingGates) -> None:
    assert gates.read() == (SHOWN,)
    gates.note(500, {}, {})
    assert [gate.port for gate in gates.read()] == [500, 4283]
    gates.forget(4283)
    gates.forget(500)
    assert gates.read() == ()
    gates.forget(500)


def test_the_note_of_a_successor_on_the_port_stays(root: Path, gates: StandingGates) -> None:
    successors = {**json.loads((root / "gate" / "4283").read_text()), "pid": 1}
    for text in (json.dumps(successors), "{", "[]"):
        (root / "gate" / "4283").write_text(text)
        gates.forget(4283)
        assert (root / "gate" / "4283").read_text() == text


def test_what_else_stands_there_is_no_gate(root: Path, gates: StandingGates) -> None:
    for name in ("token", "4284.0123456789ab", "\u00b2", "x"):
        (root / "gate" / name).write_text("{}")
    assert gates.read() == (SHOWN,)


@pytest.mark.parametrize(
    "fields", [{"pid": 999_999}, {"start": 1}, {"start": None}, {"pid_ns": "pid:[1]"}, {"boot": "x"}]
)
def test_one_that_doesnt_run_here_is_not_shown(root: Path, gates: StandingGates, fields: dict[str, object]) -> None:
    file = root / "gate" / "4283"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    assert gates.read() == ()


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", "[" * 9000, '{"pid": true}'])
def test_a_file_that_says_nothing_is_left_out(root: Path, gates: StandingGates, text: str) -> None:
    (root / "gate" / "4283").write_text(text)
    assert gates.read() == ()


@pytest.mark.parametrize("field", ["variables", "upstreams"])
@pytest.mark.parametrize("value", [1, [1], {"a": 1}, {"a": []}, {"a": None}, None])
def test_addresses_of_another_kind_fail_nobody(root: Path, gates: StandingGates, field: str, value: object) -> None:
    file = root / "gate" / "4283"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    gates.read()


def test_what_an_earlier_or_later_version_wrote_is_read(root: Path, gates: StandingGates) -> None:
    file = root / "gate" / "4283"
    found = json.loads(file.read_text())
    file.write_text(json.dumps(found | {"from the future": [1]}))
    assert gates.read() == (SHOWN,)
    file.write_text(json.dumps({name: found[name] for name in ("pid", "start", "boot", "pid_ns")}))
    assert gates.read() == (StandingGate(ME.pid, 4283, {}, {}),)


def test_a_note_that_cant_be_written_says_where(root: Path) -> None:
    with pytest.raises(StoreError, match="gate"):
        StandingGates(Effects(), str(root)).note(1, {}, {})
