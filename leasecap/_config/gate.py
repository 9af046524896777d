"""What config.toml says in [gate]: upstreams of one's own, and agents that the built-in table doesn't know.

Whether an agent's provider is known is the gate's to check: this room doesn't know its table.
"""

from __future__ import annotations

from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LONGEST_NAME = 40
_PORTS = {"http": 80, "https": 443}

ADDRESS_ALLOWED = (
    'an http or https URL with nothing but host, port and path, as "https://gateway.example.com/v1"; a key goes into a '
    "header or a variable, never into the URL"
)
UPSTREAM_NAME_ALLOWED = f"An upstream is named by 1 to {_LONGEST_NAME} lower-case letters, digits and hyphens."


class Address(NamedTuple):
    """Where a provider is reached.

    :ivar host: a name or an IP address; IPv6 without brackets.
    :ivar path: what stands after host and port, as it was written; "" or it begins with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        """The URL without its path; it names the pool."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")


class AgentSettings(NamedTuple):
    """What one table [gate.agents.NAME] says.

    :ivar provider: the upstream of the agent's own requests, or None.
    :ivar variables: what to set for it; ``{NAME}`` in a value is the gate's address of the upstream NAME.
    :ivar arguments: what to insert after the command; ``{NAME}`` is that address without the token.
    """

    provider: str | None = None
    variables: Mapping[str, str] = {}
    arguments: tuple[str, ...] = ()


class GateSettings(NamedTuple):
    """The whole table [gate]."""

    upstreams: Mapping[str, Address] = {}
    agents: Mapping[str, AgentSettings] = {}


def parse_address(value: object) -> Address:
    """The address in a URL.

    :raises ValueError: if it is none; `ADDRESS_ALLOWED` says what is.
    :raises ConfigError: if it has a user, password, query or fragment; it isn't shown, for it may be a secret.
    """
    # urlsplit drops line breaks and tabs, and what else it finds odd is not for us to repair.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or set(value) & set(' "<>\\^`{|}'):
        raise ValueError
    from urllib.parse import urlsplit

    parts = urlsplit(value)
    if "@" in value or parts.query or parts.fragment:
        raise ConfigError("this URL has more in it than host, port and path", allowed=f"allowed: {ADDRESS_ALLOWED}")
    if parts.scheme not in _PORTS or not parts.hostname or parts.port == 0:  # .port raises ValueError over 65535
        raise ValueError
    return Address(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], parts.path)


def is_upstream_name(name: str) -> bool:
    """Whether ``name`` can stand in the gate's URLs."""
    return 0 < len(name) <= _LONGEST_NAME and _NAME.issuperset(name) and not name.startswith("-")
