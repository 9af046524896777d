"""What config.toml says of asking a provider over HTTP: a URL, fields of its answer, and which variable has the key."""

from __future__ import annotations

import ipaddress
import re

from leasecap._config.gate import Address, parse_address
from leasecap._config.merge import USAGE_URL_KEYS
from leasecap._decisions.limits import UNLIMITED
from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple
from leasecap._redact import mask, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

URL_ALLOWED = (
    'an https URL, or an http one without a key or on this machine, as "https://api.example.com/v1/usage?days=1"; a '
    "key goes into a variable of the environment, which usage_key_env names, never into the URL"
)
VARIABLE_ALLOWED = (
    'the name of a variable of the environment, as "EXAMPLE_API_KEY"; the key itself stands in that variable'
)
HEADER_ALLOWED = 'the name of the header that the key alone is sent in, as "x-api-key"; unset: Authorization: Bearer'

_LONGEST_FIELD = 200  # characters
_LONGEST_SHOWN = 80
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_OF_THE_CONNECTION = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"}
)


class UsageUrl(NamedTuple):
    """Where a provider says how much it counts.

    :ivar query: what follows the ``?``; it is never shown, for it may hold a secret in spite of all.
    """

    address: Address
    query: str

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return (self.address.path or "/") + (f"?{self.query}" if self.query else "")

    @property
    def shown(self) -> str:
        """The URL for people."""
        return printable(mask(self.address.origin + self.address.path), _LONGEST_SHOWN)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether it is loopback, which no proxy leads to and nobody listens in on."""
        host = self.address.host.lower().rstrip(".")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def parse_url(value: object) -> UsageUrl:
    """The parts of ``usage_url``.

    :raises ConfigError: if it can't be asked; it isn't shown, for it may hold a key.
    """
    try:
        if isinstance(value, str):
            base, _, query = value.partition("?")
            if query.isascii() and query.isprintable() and not set(query) & set(' "<>\\^`{|}#'):
                return UsageUrl(parse_address(base), query)
    except (ConfigError, ValueError):
        pass
    raise ConfigError("this is no URL that can be asked", allowed=f"allowed: {URL_ALLOWED}")


def check_url(value: object) -> str:
    """``usage_url`` as it stands in the file, checked; raises as `parse_url`."""
    parse_url(value)
    assert isinstance(value, str)
    return value


def check_field(value: object) -> str:
    """:raises ValueError: if it is no path to a field."""
    if isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_FIELD and all(value.split(".")):
        return value
    raise ValueError


def check_variable(value: object) -> str:
    """:raises ConfigError: if it names no variable; it isn't shown, for it may be the key itself."""
    if not isinstance(value, str) or not _VARIABLE.match(value) or len(value) > _LONGEST_FIELD or mask(value) != value:
        raise ConfigError("this is no name of a variable", allowed=f"allowed: {VARIABLE_ALLOWED}")
    return value


def check_header(value: object) -> str:
    """:raises ConfigError: if no key can be sent in it; it isn't shown, for it may be the key itself."""
    if (
        not isinstance(value, str)
        or not _HEADER.match(value)
        or mask(value) != value
        or value.lower() in _OF_THE_CONNECTION
    ):
        raise ConfigError("this is no header that a key can be sent in", allowed=f"allowed: {HEADER_ALLOWED}")
    return value


class Misfit(NamedTuple):
    """A key that doesn't go with the others.

    :ivar allowed: what to do.
    """

    key: str
    message: str
    allowed: str


def find_misfit(own: Mapping[str, object], settings: Mapping[str, object]) -> Misfit | None:
    """The first of the keys about a provider's count that doesn't go with the others, if one doesn't.

    :param own: the keys of one table.
    :param settings: all that holds with these, those of [defaults] included.
    """
    found = _misfit(settings)
    if found is None or found.key in own:
        return found
    # It stands in [defaults], where it does no harm: the key here is the one too many.
    key = next((key for key in (*USAGE_URL_KEYS, "limit") if key in own), found.key)
    return found._replace(key=key)


def _misfit(settings: Mapping[str, object]) -> Misfit | None:
    if "usage_url" not in settings:
        lonely = next(key for key in USAGE_URL_KEYS if key in settings)
        return Misfit(lonely, "no usage_url says whom to ask", "Set usage_url as well, or remove this key.")
    if "usage_command" in settings:
        return Misfit("usage_url", "the provider is asked by usage_command already", "Remove one of the two.")
    if "usage_field" not in settings:
        message = "no usage_field says where the count stands in the answer"
        return Misfit("usage_url", message, 'Set usage_field as well, as "usage.concurrent_sessions".')
    if settings.get("usage_limit_field") == settings["usage_field"]:
        return Misfit("usage_limit_field", "the count can't be its own limit", "Name the field of the limit, or none.")
    if "usage_key_header" in settings and "usage_key_env" not in settings:
        message = "no usage_key_env says which key is sent"
        return Misfit("usage_key_header", message, f"Set usage_key_env: {VARIABLE_ALLOWED}.")
    url = parse_url(settings["usage_url"])
    if url.address.scheme == "http" and "usage_key_env" in settings and not url.is_on_this_machine:
        message = "the key would cross the network where others can read it"
        return Misfit("usage_url", message, f"allowed: {URL_ALLOWED}")
    if settings.get("limit") == UNLIMITED:
        message = "usage_url needs a limit that is a number: it holds while the provider gives no answer"
        return Misfit("limit", message, "Give the highest number that you would ever allow.")
    return None
