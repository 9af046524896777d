"""What config.toml says of a pool's requests, where each takes a slot of its own."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple


class Requests(NamedTuple):
    """What holds for a request that passes the gate. Durations are seconds; 0 switches off.

    :ivar first_byte_timeout: until the answer to a streamed request begins, its wait for the slot not counted. None:
        it isn't set.
    :ivar idle_timeout: between two pieces of a streamed answer.
    :ivar answer_timeout: until the answer to any other request begins, or goes on.
    :ivar absorb: how long the provider's refusals are kept from the client in all, its waits included.
    :ivar keep_place: how long the place of a client that gave up is kept.
    """

    first_byte_timeout: float | None = None
    idle_timeout: float | None = None
    answer_timeout: float | None = None
    absorb: float = 60.0
    keep_place: float = 120.0
