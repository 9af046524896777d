"""What the requests of one gate have in common."""

from __future__ import annotations

import random
import time

from leasecap._gate.bodies import Room
from leasecap._gate.upstream import Upstreams
from leasecap._provider.first_bytes import FirstBytes
from leasecap._provider.places import Places
from leasecap._provider.tasks import Tasks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Shared:
    """Belongs to one event loop.

    :ivar client: sends requests on.
    :ivar room: for bodies.
    :ivar places: of clients that gave up.
    :ivar tasks: the prompts that its clients work on.
    :ivar first_bytes: how long the providers took.
    :ivar program: what the command is called; None: the gate is for no single one.
    """

    def __init__(self, environ: Mapping[str, str], program: str | None) -> None:
        """:param environ: as it stood before the command's was changed."""
        self.client = Upstreams(environ)
        self.room = Room()
        self.places = Places(time.monotonic)
        self.tasks = Tasks(time.time)
        self.first_bytes = FirstBytes()
        self.program = program

    def jitter(self) -> float:
        """From 0 to 1, so that those who were refused together don't come again together."""
        return random.random()  # noqa: S311
