"""What the provider's answers have taught, at one moment, and what a plan makes of it."""

from __future__ import annotations

import math

from leasecap._decisions.entry import Group
from leasecap._decisions.limits import UNLIMITED, effective_limit, full_limit, in_flight
from leasecap._decisions.places import LEASES
from leasecap._feedback import adaptive, state
from leasecap._feedback.state import NOTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._decisions.admission import Admission
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._feedback.state import State
    from leasecap._file_store.feedback_files import FeedbackFiles


class FeedbackView:
    """The feedback of a pool at one moment.

    :ivar state: what holds, including reports that nobody has taken up yet; only `keep` writes it.
    :ivar cooling: the entries that cool down, and for how many seconds more.
    """

    def __init__(self, files: FeedbackFiles) -> None:
        """:raises StoreError: when the state can't be read."""
        self._files = files
        # Reports are read before the state into which they go: outside the section one that is taken up meanwhile is in
        # both, which does no harm, and not in neither.
        reports, marks = files.names()
        self._posted, self._others = files.posted(reports) if reports else ([], [])
        self.clock = files.clock()
        self._written = files.written()
        # A state of another boot is rebased here and written by `keep`. If it stayed in the file, its times would begin
        # anew at each reading, and nothing would ever grow back or end.
        self.state = state.rebased(self._written, self.clock)
        self.cooling, self._old_marks = files.cooling(marks, self.clock)

    def seen_in(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` with this feedback in it."""
        files = self._files
        spaced = files.rules.stagger_after_idle
        if self.silent and not self._posted and not spaced:
            return snapshot
        if self._posted:
            load = in_flight(snapshot)
            level = effective_limit(snapshot._replace(admission=self.admission()))
            if level in (None, UNLIMITED):
                level = max(load, 1)
            self.state = files.take_up(self.state, self._posted, self.clock, level, load)
        if spaced and not (snapshot.leases or snapshot.granted) and files.idle_for(LEASES, self.clock) >= spaced:
            self.state = adaptive.idled(self.state)
        return snapshot._replace(cooling=Group(self.cooling), admission=self.admission())

    def admission(self) -> Admission:
        """What this feedback means for grants."""
        terms = self._files.terms
        cooled_in = min(self.cooling.values(), default=math.inf)
        return adaptive.admission(self.state, terms.rules, self.clock.boot, gated=terms.gated, cooled_in=cooled_in)

    def grow(self, plan: Plan, snapshot: Snapshot) -> bool:
        """Raise the reduced limit if it is time to; returns whether it was raised."""
        if not plan.pressed:
            return False
        full = full_limit(snapshot)  # as late as this: with many leases it takes as long as all else here
        if full is None:
            return False
        before = self.admission().limit
        self.state = adaptive.pressed(self.state, self._files.rules, self.clock.boot, full)
        return self.admission().limit != before

    @property
    def silent(self) -> bool:
        """Whether none of it changes by itself: nobody has reported, nothing cools down, no question is due."""
        return self.state is NOTHING and not self.cooling and not self._files.terms.gated

    def has_news(self, plan: Plan, snapshot: Snapshot) -> bool:
        """Whether there is something to write down, apart from what grants change."""
        self.grow(plan, snapshot)
        return bool(self._posted or self._others) or self.state != self._written

    def asks_at_once(self) -> bool:
        """Whether a slot was released, so that the provider is asked without waiting for its interval."""
        usage = self.state.usage
        return usage is not None and usage.released > 0 and self.may_ask()

    def may_ask(self) -> bool:
        """Whether the provider may be asked for its own count now."""
        return adaptive.may_ask(self.state, self._files.rules, self.clock.boot)

    def keep(self, plan: Plan, snapshot: Snapshot) -> None:
        """Write down what has changed, and what ``plan`` changes.

        :raises StoreError: when that can't be written.
        """
        self.state = adaptive.granted(self.state, self.clock.boot, plan.high, plan.spent, len(plan.grant))
        if plan.ask or plan.spent:
            held = len({*snapshot.granted.names, *snapshot.leases.names})
            # What is taken back or revoked has sent nothing, or goes on: no slot of the provider's came free.
            after = held - len(plan.take_back) - len(plan.revoke) + len(plan.grant)
            self.state = adaptive.noted_held(self.state, held, after)
        self._write()

    def change(self, change: Callable[[State, float], State]) -> None:
        """Change the state, and write it down; after `seen_in`, or an earlier report would undo the change later.

        :raises StoreError: when that can't be written.
        """
        self.state = change(self.state, self.clock.boot)
        self._write()

    def _write(self) -> None:
        if self.state != self._written:
            self._files.write(self.state, self.clock)
            self._written = self.state
        self._files.clear(self._old_marks)
        self._files.clear(self._others, foreign=True)
        self._files.forget(self._posted)
        self._posted, self._others = [], []
