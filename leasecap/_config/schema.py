"""What each key of config.toml may hold. A new key is one line in the tables at the end of this module."""

from __future__ import annotations

import sys

from leasecap._config.pool_name import PoolName, pool_name
from leasecap._durations import LONGEST, parse_duration
from leasecap._liveness.stamp import BEATS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Final, TypeAlias, TypeGuard

    from leasecap._config.store_address import StoreAddress

    # A function that makes the value as leasecap uses it, or raises ValueError; and in words what may stand there.
    Key: TypeAlias = tuple[Callable[[object], object], str]

#: What ``limit = "unlimited"`` means: a number, so that the lowest of several limits is still their ``min()``.
UNLIMITED: Final[int] = sys.maxsize

# Far above any use, and far below UNLIMITED: no number that a person writes means "no limit" by accident.
HIGHEST_LIMIT = 1_000_000
_LOWEST_PRIORITY, _HIGHEST_PRIORITY = -99, 99
_SHORTEST_BEAT = 0.01
_SHORTEST_INTERVAL = 0.1
_LEAST_FACTOR, _MOST_FACTOR = 0.1, 0.95

KILL_AFTER = 10.0


def parse_number(value: object) -> int:
    """A limit that is a number, as a caller declares it.

    :raises ValueError: if it is none; it says what is allowed, not the value, which may be of any length.
    """
    if _is_whole(value) and 1 <= value <= HIGHEST_LIMIT:
        return value
    raise ValueError(f"this is no limit; allowed: {NUMBER_ALLOWED}")


def parse_limit(value: object) -> int:
    """A limit as it stands in the file: a number, or the word.

    :raises ValueError: if it is neither, as `parse_number` does.
    """
    if value == "unlimited":
        return UNLIMITED
    try:
        return parse_number(value)
    except ValueError:
        raise ValueError(f"this is no limit; allowed: {LIMIT_ALLOWED}") from None


def _priority(value: object) -> int:
    if _is_whole(value) and _LOWEST_PRIORITY <= value <= _HIGHEST_PRIORITY:
        return value
    raise ValueError


def _seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if (_is_whole(value) or isinstance(value, float)) and 0 <= value <= LONGEST:  # nan is in no range
        return float(value)
    raise ValueError


def _at_least(shortest: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        seconds = _seconds(value)
        if seconds < shortest:
            raise ValueError
        return seconds

    return parse


def _more_than_none(value: object) -> float:
    seconds = _seconds(value)
    if seconds == 0:  # it would mean "no limit" to who knows timeout(1), and "at once" to others
        raise ValueError
    return seconds


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise ValueError

    return parse


def _true_or_false(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _factor(value: object) -> float:
    if isinstance(value, float) and _LEAST_FACTOR <= value <= _MOST_FACTOR:
        return value
    raise ValueError


def _argv(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(word, str) and "\0" not in word for word in value):
        return tuple(value)
    raise ValueError


def _usage(check: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        from leasecap._config import usage  # few pools have a provider that is asked over HTTP

        parsed: str = getattr(usage, check)(value)
        return parsed

    return parse


def parse_name(value: object) -> PoolName:
    """A pool's name as it stands in the file.

    :raises ValueError: if it is no text.
    :raises ConfigError: if the text can't name a pool.
    """
    if isinstance(value, str):
        return pool_name(value)
    raise ValueError


def _word(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError


def _variables(value: object) -> dict[str, str]:
    if isinstance(value, dict) and all(
        isinstance(text, str) and _can_be_set(name, text) for name, text in value.items()
    ):
        return dict(value)
    raise ValueError


def _can_be_set(name: str, text: str) -> bool:
    return bool(name) and "=" not in name and "\0" not in name + text


def _any_table(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise ValueError


def _store(value: object) -> StoreAddress | None:
    from leasecap._config.store_address import parse_store  # most files name none

    return parse_store(value)


def _names(value: object) -> tuple[PoolName, ...]:
    if isinstance(value, list):
        return tuple(parse_name(item) for item in value)
    raise ValueError


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


NAME_ALLOWED = "the name of a pool, as text"
NUMBER_ALLOWED = f"a whole number from 1 to {HIGHEST_LIMIT}"
LIMIT_ALLOWED = f'{NUMBER_ALLOWED}, or "unlimited"'
_DURATION = 'seconds (30, 1.5) or a text with a unit ("500ms", "30s", "5m", "1h"), a year at most'

_FIELD = 'where a number stands in the JSON answer, as "usage.concurrent_sessions" or "data.0.count"'

# Allowed in [pools.NAME], and in [defaults] for the pools that don't say.
_POOL_KEYS: Mapping[str, Key] = {
    "limit": (parse_limit, LIMIT_ALLOWED),
    "queue_timeout": (_seconds, _DURATION),
    "priority": (_priority, f"a whole number from {_LOWEST_PRIORITY} to {_HIGHEST_PRIORITY}"),
    "order": (_one_of("arrival", "task"), '"arrival" or "task"'),
    "stale_after": (_at_least(_SHORTEST_BEAT), _DURATION + f", at least {BEATS} heartbeats"),
    "heartbeat": (_at_least(_SHORTEST_BEAT), _DURATION + f", {_SHORTEST_BEAT} at least"),
    "lock": (_one_of("auto", "os", "directory"), '"auto", "os" or "directory"'),
    "max_pause": (_seconds, _DURATION),
    "stagger": (_seconds, _DURATION + ", 0 for off"),
    "stagger_after_idle": (_seconds, _DURATION + ", 0 for off"),
    "adaptive": (_one_of("off", "reduce", "aimd"), '"off", "reduce" or "aimd"'),
    "backoff": (_factor, f"a factor from {_LEAST_FACTOR} to {_MOST_FACTOR}"),
    "min_limit": (parse_number, NUMBER_ALLOWED),
    "probe_interval": (_at_least(_SHORTEST_INTERVAL), _DURATION + f", {_SHORTEST_INTERVAL} at least"),
    "latency_guard": (_true_or_false, "true or false"),
    "cooldown": (_seconds, _DURATION + ", 0 for off"),
    "usage_command": (_argv, 'a command as a list of texts, as ["my-usage", "--json"]'),
    "usage_url": (_usage("check_url"), "a URL"),
    "usage_field": (_usage("check_field"), _FIELD),
    "usage_limit_field": (_usage("check_field"), _FIELD),
    "usage_key_env": (_usage("check_variable"), "the name of a variable of the environment"),
    "usage_key_header": (_usage("check_header"), "the name of a header"),
    "usage_interval": (_at_least(_SHORTEST_INTERVAL), _DURATION + f", {_SHORTEST_INTERVAL} at least"),
    "usage_timeout": (_at_least(_SHORTEST_INTERVAL), _DURATION + f", {_SHORTEST_INTERVAL} at least"),
    "max_hold": (_more_than_none, _DURATION + ", more than 0"),
    "kill_after": (_seconds, _DURATION),
    "reclaim": (_one_of("never", "force"), '"never" or "force"'),
    "first_byte_timeout": (_seconds, _DURATION + ", 0 for none"),
    "idle_timeout": (_seconds, _DURATION + ", 0 for none"),
    "answer_timeout": (_seconds, _DURATION + ", 0 for none"),
    "absorb": (_seconds, _DURATION + ", 0 for off"),
    "keep_place": (_seconds, _DURATION + ", 0 for off"),
    "when_unsure": (_one_of("run", "end"), '"run" or "end"'),
    "record": (_one_of("full", "minimal"), '"full" or "minimal"'),
    "store": (_store, 'the URL of a Redis or Valkey, as "redis://host:6379/0", or "files"'),
}

# Every table of the file. [pools] holds one table a pool; [commands] any command's name, each with a pool; [gate] two
# tables of names of their own.
TABLES: Mapping[str, Mapping[str, Key]] = {
    "defaults": {**_POOL_KEYS, "pool": (parse_name, NAME_ALLOWED)},
    "pools": {**_POOL_KEYS, "aliases": (_names, 'a list of names or endpoints, as ["claude", "localhost:8000"]')},
    "commands": {},
    "gate": {
        "upstreams": (_any_table, 'a table of URLs, as gateway = "https://gateway.example.com/v1"'),
        "agents": (_any_table, "a table for each agent, as [gate.agents.my-agent]"),
    },
}

# Allowed in [gate.agents.NAME].
AGENT_KEYS: Mapping[str, Key] = {
    "provider": (_word, "the name of a provider or of an upstream, as text"),
    "variables": (_variables, 'a table of texts, as { MY_BASE_URL = "{openai}/v1" }'),
    "arguments": (_argv, 'a list of texts, as ["--base-url", "{openai}/v1"]'),
}
