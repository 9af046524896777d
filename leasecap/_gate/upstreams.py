"""Where the gate sends requests, and what its own addresses look like. Pure."""

from __future__ import annotations

from leasecap._config.gate import Address, parse_address
from leasecap._gate.clients import DETOURS, PROVIDERS
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


class Upstream(NamedTuple):
    """One provider as this run reaches it.

    :ivar name: its id in the gate's URLs.
    :ivar host: a name or an IP address; IPv6 without brackets.
    :ivar base_path: what its own base URL begins its paths with, without a version at the end; clients send it along.
    :ivar variable: what named it: a variable, a file, or "" for the public address.
    :ivar speaks: the provider whose requests and errors it understands.
    """

    name: str
    scheme: str
    host: str
    port: int
    base_path: str = ""
    variable: str = ""
    speaks: str = "openai"

    @property
    def origin(self) -> str:
        """The URL without a path; it names the pool."""
        return Address(self.scheme, self.host, self.port, "").origin

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def authority(self) -> bytes:
        """What its Host header says."""
        return self.origin.partition("://")[2].encode()


def gate_url(address: str, token: str, name: str) -> str:
    """The address that a client has for the upstream ``name``, without the path of its base URL."""
    return f"http://{address}/{token}/{name}"


def detour(upstream: Upstream, headers: Collection[bytes], target: bytes) -> tuple[Upstream, bytes]:
    """Where one request goes: its upstream and target, or those of the host that its login belongs to.

    Only the public address has such a host: one that somebody has set is where everything is meant to go.

    :param headers: the names of the request's headers, in lower case.
    """
    for other in DETOURS:
        if other.provider == upstream.name and upstream.variable == "" and other.header in headers:
            address = parse_address(other.origin)
            rest = target.removeprefix(other.drops.encode())
            return (
                upstream._replace(scheme=address.scheme, host=address.host, port=address.port, base_path=other.path),
                other.path.encode() + rest,
            )
    return upstream, target


def public(name: str) -> Address:
    """The public address of a known provider, without a path."""
    return parse_address(PROVIDERS[name].origin)
