"""What one pool learns from its provider, loaded when there is anything of it: most acquires need none of that."""

from __future__ import annotations

import stat

from leasecap._faults import faults
from leasecap._file_store.layout import FEEDBACK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._feedback.rules import Rules
    from leasecap._file_store.feedback_files import FeedbackFiles
    from leasecap._file_store.feedback_view import Lessons
    from leasecap._file_store.layout import Pool
    from leasecap._runtime import Local


class Learning:
    """The feedback of one pool.

    :ivar rules: what the configuration says now.
    :ivar count: asks the provider how many requests it counts in flight, in place of ``usage_command``.
    """

    def __init__(self, local: Local, pool: Pool, rules: Rules) -> None:
        self.rules = rules
        self.count: Callable[[], int] | None = None
        self._local = local
        self._pool = pool
        self._parts: tuple[FeedbackFiles, type[Lessons]] | None = None

    @property
    def gated(self) -> bool:
        """Whether the provider is asked before a grant that could be too much."""
        return self.count is not None or bool(self.rules.usage_command)

    @property
    def files(self) -> FeedbackFiles:
        """Where it stands."""
        return self._loaded()[0]

    def _loaded(self) -> tuple[FeedbackFiles, type[Lessons]]:
        if self._parts is None:
            with self._local.lock:  # a fork must copy no half-done import
                from leasecap._file_store.feedback_files import FeedbackFiles
                from leasecap._file_store.feedback_view import Lessons

                self._parts = self._parts or (FeedbackFiles(self._local.effects, self._pool, self), Lessons)
        return self._parts

    def lessons(self) -> Lessons | None:
        """What is known of the provider now; None where nobody has reported anything, and nothing is configured.

        :raises StoreError: when that can't be read.
        """
        rules = self.rules
        if not (self.is_there() or rules.cooldown or rules.stagger_after_idle or self.gated):
            return None
        files, look = self._loaded()
        return look(files)

    def is_there(self) -> bool:
        """Whether anybody has ever noted anything.

        :raises StoreError: when something else stands in the place of the directory.
        """
        # A stat in place of an open and a listing, in each acquire.
        directory = self._pool.directory
        with faults(directory.full(FEEDBACK)):
            try:
                found = directory.stat(FEEDBACK)
            except FileNotFoundError:
                return False
        if not stat.S_ISDIR(found.st_mode):
            from leasecap._file_store.feedback_files import unknown

            raise unknown(self._pool, FEEDBACK, "is no directory")
        return True
