"""A pool as it stands, as one process reads it."""

from __future__ import annotations

from leasecap._decisions import grants
from leasecap._decisions.entry import Group
from leasecap._decisions.loads import NOBODY
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._decisions.snapshot import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from leasecap._feedback.state import State
    from leasecap._file_store.entries import Entries
    from leasecap._file_store.feedback import Feedback
    from leasecap._file_store.feedback_view import FeedbackView
    from leasecap._file_store.peers import Peers
    from leasecap._file_store.policy import Policy


def _nothing() -> None:
    pass


class Snapshots:
    """The snapshots that one process takes of one pool."""

    def __init__(self, entries: Entries, peers: Peers, policy: Policy, feedback: Feedback | None) -> None:
        """:param feedback: what the provider has answered; None leaves all that out."""
        self._effects = entries.effects
        self._entries = entries
        self._peers = peers
        self._policy = policy
        self._feedback = feedback
        self._granted_since: dict[str, float] = {}
        self._last_look = 0.0

    def take(self) -> Snapshot:
        """The pool as it stands, with what is known of the provider.

        :raises StoreError: when that can't be read.
        """
        return self.take_all()[0]

    def take_all(self, follow: Callable[[], None] = _nothing) -> tuple[Snapshot, FeedbackView | None]:
        """The pool as it stands, and the feedback in it.

        The places are read in the order in which entries move, so that none is missed, and before all that says how
        many may hold a slot. Else a limit that was lowered, a report or a cool-down, made before a slot was released,
        could be missed by who sees that slot free.

        :param follow: has the policy follow the configuration.
        :raises StoreError: when the feedback can't be read.
        """
        snapshot = self._held_to(follow)
        view = self.feedback()
        return snapshot if view is None else view.seen_in(snapshot), view

    def update_feedback(
        self,
        change: Callable[[State, float], State],
        follow: Callable[[], None],
        is_ours: Callable[[], bool],
        *,
        anew: bool,
    ) -> bool:
        """See `Feedback.update`."""
        assert self._feedback is not None
        return self._feedback.update(self._held_to(follow), change, is_ours, anew=anew)

    def _held_to(self, follow: Callable[[], None]) -> Snapshot:
        """What stands in the places, and then the limit in force."""
        snapshot = self._places()
        follow()
        return snapshot._replace(configured=self._policy.configured)

    def _places(self) -> Snapshot:
        """What stands in the places.

        Tickets move both ways between the queue and ``parked/``, outside the section too: a look-out parks, and whoever
        looks again goes back. So that one is read before and after.
        """
        before, queue, parked, granted, leases = map(self._group, (PARKED, QUEUE, PARKED, GRANTED, LEASES))
        if before and before.names != parked.names:
            seen = {*queue.names, *parked.names, *granted.names, *leases.names}
            parked = Group([*parked.names, *(name for name in before.names if name not in seen)])
        # Who was taken for dead in the queue, came back and was granted a slot by another process, holds it.
        self._peers.dead.difference_update(leases.names)
        return Snapshot(
            configured=None,
            queue=queue,
            parked=parked,
            granted=granted,
            leases=leases,
            dead=frozenset(self._peers.dead),
            gone=frozenset(self._peers.gone),
            granted_since=self.see_grants(granted.names),
        )

    def feedback(self) -> FeedbackView | None:
        """What is known of the provider now; None if nothing is.

        :raises StoreError: when that can't be read.
        """
        return None if self._feedback is None else self._feedback.view()

    def see_grants(self, granted: Collection[str] | None = None) -> dict[str, float]:
        """When this process first saw each of the grants that are not taken up; ``granted`` are their names.

        Whoever sweeps goes by what it has seen itself, and that can be another process at any time.
        """
        now = self._effects.monotonic()
        # After so long without a look a grant may have been taken back and made again, so what was seen is forgotten.
        # It must not be sooner: a process far back looks seldom, and would never take back a grant. With the first few
        # stopped, the pool would stand still.
        if now - self._last_look > grants.ACKNOWLEDGE_WITHIN:
            self._granted_since.clear()
        self._last_look = now
        since = self._granted_since
        names = self._group(GRANTED).names if granted is None else granted
        self._granted_since = {name: since.get(name, now) for name in names}
        return self._granted_since

    def note_late(self, names: Collection[str]) -> None:
        """Count anew for these grants, which could not be taken back."""
        self._granted_since.update(dict.fromkeys(names, self._effects.monotonic()))

    def _group(self, where: str) -> Group:
        names = self._entries.names(where)
        return Group([name for name in names if name[0] != "."]) if names else NOBODY
