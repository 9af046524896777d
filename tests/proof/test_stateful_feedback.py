"""Whatever the provider answers and clocks do: no free slot stands beside who waits, unless a pause says until when."""

from __future__ import annotations

from functools import partial

import pytest
from fake_machines import Process, request
from histories import ANY, DAY, LONG, Machines, pick
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from insides import face_of

from leasecap import _control
from leasecap._feedback import adaptive
from leasecap._usage import asking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._feedback.state import State
    from leasecap._file_store.store import Store

LONGEST_PROBE = 8.0
LONGEST_PAUSE = 60.0
TIMEOUT = 2.0
SETTLED = 12.0
"""Seconds in which a question is over, and so are a cool-down and the gaps between grants."""

ANSWERS = st.sampled_from([0.05, 0.7, 1.5, 3.0, 9.0, None, None])
COUNTS = st.sampled_from([0, 0, 1, 9, None, -1])

RULES = f"""
probe_interval = 1
max_pause = {LONGEST_PAUSE}
stagger = 0.25
usage_interval = 0.5
usage_timeout = {TIMEOUT}
"""


class MachinesWithFeedback(Machines):
    """Two time namespaces on one machine; a provider that refuses, and that is asked for its count.

    :ivar answers_after: seconds from a question to its answer; None: it never comes.
    :ivar count: the answer.
    """

    current: Process | None = None
    gated = False
    cooldown = 0.0
    answers_after: float | None = 0.05
    count: object = 0

    @initialize(
        limit=st.integers(1, 3),
        waiters=st.integers(1, 3),
        gated=st.sampled_from([True, True, False]),
        cooldown=st.sampled_from([0, 0.5]),
        answers_after=ANSWERS,
        count=COUNTS,
    )
    def begin(
        self,
        limit: int,
        waiters: int,
        gated: bool = False,
        cooldown: float = 0,
        answers_after: float | None = None,
        count: int | None = None,
    ) -> None:
        self.answers_after, self.count = answers_after, count
        self.gated = gated
        self.world.kernels[1].boot_offset = 1000 * 10**9
        self.cooldown = cooldown
        self.world.more = f"{RULES}cooldown = {cooldown}\n"
        self.world.opened = self._open
        super().begin(limit, waiters)

    def _open(self, process: Process, store: Store) -> None:
        assert store.feedback is not None
        store.feedback.terms.count = self._count if self.gated else None
        store.ask = partial(self._ask, process, store)
        store.sweeper._ask = store.ask

    def _count(self) -> int:
        if self.count is None:
            raise ValueError("the provider doesn't say")
        return self.count  # type: ignore[return-value]

    def _ask(self, process: Process, store: Store) -> None:
        # Each of the invented processes has questions of its own.
        asking._askers = process.__dict__.setdefault("askers", {})
        MachinesWithFeedback.current = process
        assert store.feedback is not None
        asking.ask(face_of(store), lambda: lambda: None)

    def _with_store(self, what: Callable[[Store], object]) -> None:
        """What somebody does to the pool from a process of its own."""
        process = self._start(0)
        call = process.ask(request(0.0))
        what(call.store)
        if call.lease is not None:
            call.release()
        process.kill()

    def _state(self) -> tuple[State, float]:
        found: list[tuple[State, float]] = []

        def look(store: Store) -> None:
            assert store.feedback is not None
            clock = store.feedback.files.clock()
            found.append((store.feedback.files.read(clock), clock.boot))

        self._with_store(look)
        return found[0]

    # A ticket of somebody who is gone, and that nobody here can read, holds its declared limit: "can't tell" is alive.
    change_the_owner = change_it_back = corrupt_a_record = None  # type: ignore[assignment]
    # They have nothing to do with feedback, and would take the place of what has.
    run_a_command = the_command_ends = the_wall_clock_jumps = set_limit = suspend = None  # type: ignore[assignment]

    # A borrower goes out of turn by a lender that has ended and cools down, as by one that waits for it.
    @precondition(lambda self: self._held() and not self.cooldown)
    @rule(which=ANY, asker=ANY)
    def ask_under_a_lease(self, which: int, asker: int) -> None:
        super().ask_under_a_lease(which, asker)

    # -- what the provider does -------------------------------------------------------------------------------------

    @precondition(lambda self: self._held())
    @rule(
        which=ANY,
        number=st.sampled_from([1, 1, 3]),
        status=st.sampled_from([429, 429, 529, 402]),
        retry_after=st.sampled_from([None, None, 0.3, 3.0, 30.0, 1e6]),
    )
    def report(self, which: int, number: int, status: int, retry_after: float | None) -> None:
        call = pick(self._held(), which)
        assert call.lease is not None
        if status == 402:
            retry_after = min(retry_after or 20.0, LONGEST_PAUSE)
        for _ in range(number):
            call.lease.report(status, retry_after=retry_after)

    @rule(answers_after=ANSWERS, count=COUNTS)
    def the_provider_changes(self, answers_after: float | None, count: int | None) -> None:
        self.answers_after, self.count = answers_after, count

    # -- what people do ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 3.0, 40.0, None]))
    def pause(self, seconds: float | None) -> None:
        self._with_store(lambda store: _control.pause(face_of(store), seconds, "by hand"))

    @rule()
    def resume(self) -> None:
        self._with_store(lambda store: _control.resume(face_of(store)))

    @rule(name=st.sampled_from(["0-report", "cooling-0", "f" * 16]))
    def plant_a_directory(self, name: str) -> None:
        self._with_store(lambda store: _control.report(face_of(store), "a plant", status=429))
        (self.world.pool / "feedback" / name).mkdir(exist_ok=True)

    # -- what clocks do ---------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from([-DAY, -3600, -2, 2, 3600, DAY]))
    def step_the_wall_clock(self, step: int) -> None:
        self.world.hosts[0].wall += step

    @rule(
        step=st.sampled_from([0, -3600, 3600, -DAY, DAY]), paused=st.sampled_from([None, 3.0, 40.0]), cut=st.booleans()
    )
    def reboot_with_another_time(self, step: int, paused: float | None, cut: bool) -> None:
        """And what was just taught."""
        if cut:
            self._with_store(lambda store: _control.report(face_of(store), "somebody", status=429))
        if paused is not None:
            self._with_store(lambda store: _control.pause(face_of(store), paused, "by hand"))
        self.reboot(0)
        self.world.hosts[0].wall += step

    # -- the property -----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.certain)
    @rule()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Within a bound they are granted one, or a pause says until when."""
        world = self.world
        stopped = [call for process in self._live() if process.stopped for call in process.calls if call.waits]
        given_up = [name for name in world.once_foreign if world.owner(name) is None]
        if self.count not in (None, -1):
            self.count = 0  # else it is the provider that has no room
        waiting = [call for process in self._running() for call in process.calls if call.waits]
        for which in range(world.limit + 1 - len(waiting)):
            self._start(which % 2).ask(request())
        world.pass_time(SETTLED + 3.0 * len(stopped + given_up))
        state, now = self._state()
        if state.pause is not None and state.pause.until is None:
            return
        if state.pause is not None and state.pause.until is not None and state.pause.until > now:
            assert state.pause.until - now <= LONGEST_PAUSE
            world.pass_time(state.pause.until - now)
        # A reduced limit comes back while somebody waits: at worst a long probe, one that holds, and the rest quickly.
        world.pass_time(SETTLED + LONGEST_PROBE + 8.0)
        waits = [call for process in self._running() for call in process.calls if call.waits]
        if any(call.name not in world.foreign for call in waits):
            assert world.taken() >= world.limit_in_force(), self._state()

    def _everything_ends(self) -> None:
        self.nobody_waits_beside_a_free_slot()
        self._with_store(lambda store: _control.resume(face_of(store)))
        super()._everything_ends()

    def _all_slots_can_be_had(self) -> None:
        self._with_store(lambda store: _control.restore(face_of(store)))
        self.gated = False
        self.world.more = "stagger = 0\n"
        self.world.set_limit(self.world.limit)
        self.world.pass_time(1.0)
        super()._all_slots_can_be_had()


def start_question(name: str, call: Callable[..., object], *args: object) -> None:
    """In place of the thread that asks."""
    process = MachinesWithFeedback.current
    assert process is not None
    machine = process.world.opened.__self__  # type: ignore[attr-defined]
    if machine.answers_after is not None:
        process.later.append((process.world.now + machine.answers_after, partial(call, *args)))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_no_history_keeps_a_free_slot_from_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leasecap._log.sink", lambda message: None)
    monkeypatch.setattr(asking, "start_thread", start_question)
    monkeypatch.setattr(asking, "_askers", {})
    monkeypatch.setattr(adaptive, "MAX_PROBE_INTERVAL", LONGEST_PROBE)
    run_state_machine_as_test(MachinesWithFeedback, settings=settings(LONG, max_examples=30))
