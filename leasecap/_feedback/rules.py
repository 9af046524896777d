"""What a pool's configuration says of feedback."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple


class Rules(NamedTuple):
    """What a pool's configuration says of feedback; durations in seconds.

    :ivar max_pause: the longest pause that a Retry-After can ask for.
    :ivar stagger: the time between grants that raise the load after a pause; 0 is off.
    :ivar stagger_after_idle: how long a pool must be idle for its next grants to be spaced as well; 0 is off.
    :ivar adaptive: "off", "reduce" (never grows back by itself) or "aimd".
    :ivar backoff: the factor of a cut.
    :ivar min_limit: no cut goes below it.
    :ivar probe_interval: the time between two steps beyond a level that failed.
    :ivar latency_guard: whether a rising time to first byte cuts, and not only holds growth back.
    :ivar cooldown: how long a released slot stays taken.
    :ivar usage_command: a command that prints how many requests the provider counts in flight.
    :ivar usage_url: where the provider itself says so, in JSON.
    :ivar usage_field, usage_limit_field: where in the answer its count stands, and its own limit.
    :ivar usage_key_env: the variable of the environment that holds the key; "" for none.
    :ivar usage_key_header: the header that the key alone is sent in; "" for ``Authorization: Bearer``.
    :ivar usage_interval: the time between two questions, of all processes of the pool.
    :ivar usage_timeout: how long an answer may take.
    :ivar usage_source: for people, whom the machine asks that has set these rules for others.
    """

    max_pause: float = 600.0
    stagger: float = 0.25
    stagger_after_idle: float = 0.0
    adaptive: str = "aimd"
    backoff: float = 0.7
    min_limit: int = 1
    probe_interval: float = 60.0
    latency_guard: bool = False
    cooldown: float = 0.0
    usage_command: tuple[str, ...] = ()
    usage_url: str = ""
    usage_field: str = ""
    usage_limit_field: str = ""
    usage_key_env: str = ""
    usage_key_header: str = ""
    usage_interval: float = 1.0
    usage_timeout: float = 5.0
    usage_source: str = ""

    @property
    def ask(self) -> bool:
        """Whether the provider is asked for its own count."""
        return bool(self.usage_command or self.usage_url or self.usage_source)
