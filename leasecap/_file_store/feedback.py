"""What one pool's provider has answered. The modules for it are loaded once there is any: most acquires need none."""

from __future__ import annotations

from leasecap._errors import StoreError
from leasecap._file_store.has_feedback import has_feedback
from leasecap._store.terms import Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from leasecap._decisions.snapshot import Snapshot
    from leasecap._feedback.rules import Rules
    from leasecap._feedback.state import State
    from leasecap._file_store.feedback_files import FeedbackFiles
    from leasecap._file_store.feedback_view import FeedbackView
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects


class Feedback:
    """The feedback of one pool.

    :ivar terms: what is asked of the provider.
    """

    def __init__(self, effects: Effects, importing: AbstractContextManager[object], pool: Pool, rules: Rules) -> None:
        """:param importing: entered round an import, since a fork must not copy one that is half done."""
        self.terms = Terms(rules)
        self._effects = effects
        self._importing = importing
        self._pool = pool
        self._parts: tuple[FeedbackFiles, type[FeedbackView]] | None = None

    @property
    def files(self) -> FeedbackFiles:
        """The files that it stands in."""
        return self._loaded()[0]

    def _loaded(self) -> tuple[FeedbackFiles, type[FeedbackView]]:
        if self._parts is None:
            with self._importing:
                from leasecap._file_store.feedback_files import FeedbackFiles
                from leasecap._file_store.feedback_view import FeedbackView

                self._parts = self._parts or (FeedbackFiles(self._effects, self._pool, self.terms), FeedbackView)
        return self._parts

    def view(self) -> FeedbackView | None:
        """What is known of the provider now; None where nobody has reported anything and nothing is configured.

        :raises StoreError: when that can't be read.
        """
        rules = self.terms.rules
        if not (has_feedback(self._pool) or rules.cooldown or rules.stagger_after_idle or self.terms.gated):
            return None
        files, look = self._loaded()
        return look(files)

    def update(
        self,
        snapshot: Snapshot,
        change: Callable[[State, float], State],
        is_ours: Callable[[], bool],
        *,
        anew: bool,
    ) -> bool:
        """Inside the section: change the state, in which all is that was reported before.

        :param snapshot: the pool as it stands.
        :param is_ours: whether the section wasn't taken from this process; else nothing is changed. Asked last.
        :param anew: a state that can't be read is forgotten.
        :raises StoreError: when it can't be read or written.
        """
        files, look = self._loaded()
        try:
            has_feedback(self._pool)
            view = look(files)
        except StoreError:
            if not anew:
                raise
            files.start_anew()
            view = look(files)
        view.seen_in(snapshot)
        if not is_ours():
            return False
        view.change(change)
        return True
