"""Which proxy a connection goes through, as the environment says it.

``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``, or the same in capitals. The first one that is set
counts, also when it is empty, which says that there is none. As in Go, and unlike curl, loopback is never reached
through a proxy: what listens there is a local model, and another machine's loopback is not it.

Not `urllib.request`: it loads an HTTP client and the mail package, and its no_proxy knows no networks.
"""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from leasecap._errors import ConfigError
from leasecap._extras import to_install
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


class Proxy(NamedTuple):
    """Where a proxy listens, and who we are to it."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str


def proxy_for(environ: Mapping[str, str], scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy to an origin, None for a connection of our own.

    :raises ConfigError: when the variable names nothing that can be used as one; it never shows the value, which may
        have a password in it.
    """
    if _is_loopback(host) or _is_excepted(_first(environ, "no_proxy")[1], host, port):
        return None
    name, text = _first(environ, f"{scheme}_proxy", "all_proxy")
    return _parse(name, text) if text else None


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    for name in names:
        for spelling in (name, name.upper()):
            if spelling in environ:
                return spelling, environ[spelling].strip()
    return "", ""


def _parse(name: str, text: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or scheme not in _PORTS:
        raise ConfigError(
            "names no proxy that can be used",
            file="environment",
            key=name,
            allowed="http://HOST:PORT, or https://, socks5:// or socks5h:// in its place",
        )
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigError(
            "names a SOCKS proxy, for which the package socksio is missing",
            file="environment",
            key=name,
            allowed=to_install("socksio"),
        )
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(scheme, host, port or _PORTS[scheme], user, unquote(parts.password or ""))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _is_excepted(entries: str, host: str, port: int) -> bool:
    """Whether no_proxy names this host: itself, a domain above it, a network that it is in, or all with a ``*``."""
    host = host.lower().rstrip(".")
    address = _address(host)
    for entry in entries.lower().replace(",", " ").split():
        if entry == "*":
            return True
        name, only = _split_port(entry)
        if only not in ("", str(port)):
            continue
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                pass  # a name, and addresses aren't looked up
        else:
            name = name.removeprefix("*").strip(".")
            if name and (host == name or host.endswith(f".{name}")):
                return True
    return False


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = entry.partition(":")
    return (entry, "") if ":" in port else (name, port)  # an IPv6 address without brackets has no port


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
