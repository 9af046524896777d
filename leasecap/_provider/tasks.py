"""When the prompts began that requests work on, so that an agent half through its work goes before one that begins.

Kept are a keyed hash and a time of each, for a bounded number of prompts; no text and no credential is.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from secrets import token_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leasecap._provider.conversation import Prompt

_MOST = 4096
"""Prompts that are remembered at once; the one that was used longest ago goes first."""

_KEPT_FOR = 24 * 3600.0
"""Seconds for which a prompt is remembered after its last request: a person may take until tomorrow to allow a tool."""


class Task:
    """What is done for one prompt.

    :ivar began: when its first request came.
    :ivar answered: one of its requests was. If the prompt comes once more with nothing said since, it is a new one that
        reads the same.
    """

    __slots__ = ("_remember", "answered", "began", "used")

    def __init__(self, began: float, remember: Callable[[Task, str], None]) -> None:
        self.began = self.used = began
        self.answered = False
        self._remember = remember

    def is_followed(self, response: str) -> None:
        """What goes on from the answer of that name is part of this task."""
        self._remember(self, response)


class Tasks:
    """Those of one gate, or of the clients of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """:param clock: seconds since 1970."""
        self._clock = clock
        self._tasks: OrderedDict[bytes, Task] = OrderedDict()
        self._secret = token_bytes(32)

    def of(self, prompt: Prompt, who: Sequence[bytes]) -> Task:
        """The task that a request is part of; one that begins now, if it can't be told.

        :param who: whose requests they are, and to whom: equal prompts of others are other tasks.
        """

        def remember(task: Task, response: str) -> None:
            self._keep(self._key(who, (response,)), task)

        now = self._clock()
        names = [self._key(who, (prompt.follows or "", *prompt.texts))] if prompt.texts else []
        if prompt.follows is not None:
            names.append(self._key(who, (prompt.follows,)))
        if not names:
            return Task(now, remember)
        task = self._tasks.get(names[0])
        if task is None or now - task.used > _KEPT_FOR or (prompt.begins and task.answered):
            task = Task(now, remember)
        task.used = now
        for name in names:
            self._keep(name, task)
        return task

    def _keep(self, name: bytes, task: Task) -> None:
        self._tasks[name] = task
        self._tasks.move_to_end(name)
        if len(self._tasks) > _MOST:
            self._tasks.popitem(last=False)

    def _key(self, who: Sequence[bytes], texts: Sequence[str]) -> bytes:
        digest = blake2b(key=self._secret, digest_size=16)
        for part in (*who, b"", *(text.encode("utf-8", "surrogatepass") for text in texts)):
            digest.update(b"%d:" % len(part))
            digest.update(part)
        return digest.digest()
