"""Which pool a name means.

Two spellings that a person takes for one name are one pool: upper and lower case, composed and decomposed accents, and
the many ways to write one endpoint. A name never becomes a path: the directory is a slug and a hash of the identity. Of
an endpoint only host and port are kept, and no error repeats the rest, which may hold a key.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Mapping

LONGEST_NAME = 200  # characters
_LONGEST_TEXT = 8192  # characters: an endpoint may come with a long path and query, which are dropped

ALLOWED = (
    f"A pool is named by 1 to {LONGEST_NAME} visible characters without white space at the ends (such as anthropic), "
    "or by an endpoint (http, https, ws or wss URL, localhost:8000, api.example.com:443)."
)

_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104 - names to recognise
_DEFAULT_PORTS = frozenset({80, 443})
_SLUG = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")


class PoolName(NamedTuple):
    """One pool's name.

    :ivar text: what people are shown: the name as it was written, or host:port, or the known pool of an endpoint.
    :ivar identity: what makes two names one pool: normalised (NFC) and case-folded.
    :ivar directory: the name of the pool's directory, a slug of the identity and a hash of it; one plain path
        component, ASCII and lower-case, so it is safe where the file system ignores case.
    """

    text: str
    identity: str
    directory: str


def pool_name(text: str) -> PoolName:
    """The pool that ``text`` names: a plain name, or an endpoint.

    Endpoints are URLs with http, https, ws or wss, loopback names, and host:port with a dot in the host. Of an endpoint
    only host and port count, ports 80 and 443 are dropped, and a known host gives the pool of its provider.

    :raises ConfigError: if it can't be a pool's name; it never repeats an endpoint's user, path or query.
    :raises TypeError: if it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a pool is named by a str, not by {type(text).__name__}")
    return _named(text)


@lru_cache(maxsize=256)
def _named(text: str) -> PoolName:
    _check_characters(text)
    name = _endpoint(text) or text
    if len(name) > LONGEST_NAME:
        raise _refusal(f"the name has {len(name)} characters")
    identity = _identity(name)
    return PoolName(name, identity, _directory(identity))


def _refusal(message: str) -> ConfigError:
    return ConfigError(f"this can't name a pool: {message}", allowed=ALLOWED)


def _check_characters(text: str) -> None:
    if not text or text.isspace():
        raise _refusal("it is empty")
    if len(text) > _LONGEST_TEXT:
        raise _refusal(f"it has {len(text)} characters")
    if text in (".", ".."):
        raise _refusal(f"{text!r} means a directory")
    if text[0].isspace() or text[-1].isspace():
        raise _refusal("it begins or ends with white space")
    if text.isascii() and text.isprintable():
        return
    import unicodedata

    for place, character in enumerate(text, 1):
        # Invisible and direction-changing characters make two names look alike; emoji are joined by U+200C and U+200D
        # and carry tags.
        kind = unicodedata.category(character)
        if kind == "Cf" and (character in "\u200c\u200d" or "\U000e0020" <= character <= "\U000e007f"):
            continue
        if kind in ("Cc", "Cs", "Cf", "Zl", "Zp"):
            raise _refusal(f"character {place} is U+{ord(character):04X}, which can't be seen")


def _identity(name: str) -> str:
    if name.isascii():
        return name.lower()
    from unicodedata import normalize

    # Folding may leave a composed text half decomposed. So it is decomposed, folded, and composed again.
    return normalize("NFC", normalize("NFD", name).casefold())


def _directory(identity: str) -> str:
    slug = "".join(character if character in _SLUG else "-" for character in identity[:32]).strip("._-")
    return f"{slug or 'pool'}-{sha256()(identity.encode()).hexdigest()[:20]}"


def sha256() -> Callable[[bytes], hashlib._Hash]:
    """The constructor of SHA-256."""
    # Python's own module, as `random` uses it: hashlib loads OpenSSL, which takes longer than the rest of a first
    # acquire.
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
        else:
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from hashlib import sha256
    found: Callable[[bytes], hashlib._Hash] = sha256
    return found


def _endpoint(text: str) -> str | None:
    """The canonical name of an endpoint, or None for a plain name."""
    if not any(mark in text for mark in ".:"):
        return "localhost" if text.lower() == "localhost" else None
    start, colon, rest = text.partition(":")
    is_url = bool(colon) and rest.startswith("/")
    if is_url and not (start.lower() in _SCHEMES and rest.startswith("//")):
        raise _refusal("it looks like a URL, but doesn't begin with http://, https://, ws:// or wss://")
    authority, tail = _cut(rest[2:] if is_url else text)
    host, port = _split(authority.rpartition("@")[2])
    if not is_url and not (_is_loopback(host) or (port and ("." in host or host.startswith("[")))):
        if ":" in text.rpartition("@")[0]:
            raise _refusal("it looks like user:password@host, but has no scheme")
        return _hosts().get(_plain_host(host))  # a provider's host alone means the same pool as its URL
    if "@" in tail:
        # In https://user:pa/ss@host/ the host is "user" to every parser: half a password would be the pool's name.
        raise _refusal(
            "the endpoint has an @ after the host, which may be part of a password; give host and port alone"
        )
    canonical = _host(host)
    if port:
        number = int(port)
        if not 1 <= number <= 65535:
            raise _refusal("the endpoint's port is not between 1 and 65535")
        if number not in _DEFAULT_PORTS:
            canonical += f":{number}"
    return _hosts().get(canonical, canonical)


def _hosts() -> Mapping[str, str]:
    from leasecap._config.presets import HOSTS

    return HOSTS


def _cut(text: str) -> tuple[str, str]:
    """Authority, and what follows it.

    Not by urllib.parse: it takes a backslash for a part of the host, reads brackets in another way from one Python to
    the next, and its errors repeat what they refuse, a password too.
    """
    end = min((place for mark in "/?#\\" if (place := text.find(mark)) >= 0), default=len(text))
    return text[:end], text[end:]


def _split(address: str) -> tuple[str, str]:
    """Host and port ("" if there is none). If the port is no number, all of it is the host."""
    if address in _LOOPBACK:  # a bare ::1
        return address, ""
    host, colon, port = address.rpartition(":")
    if colon and "]" not in port and (not port or (len(port) < 10 and port.isascii() and port.isdigit())):
        return host, port
    return address, ""


def _plain_host(host: str) -> str:
    return host.lower().rstrip(".")


def _is_loopback(host: str) -> bool:
    return _plain_host(host).strip("[]") in _LOOPBACK


def _host(host: str) -> str:
    """The host in the one spelling that pools are named by."""
    if _is_loopback(host):
        return "localhost"
    if host.startswith("[") and host.endswith("]"):
        from ipaddress import IPv6Address

        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise _refusal("what stands in the endpoint's brackets is no IPv6 address") from None
        mapped = address.ipv4_mapped
        if address.is_loopback or address.is_unspecified or (mapped is not None and _is_loopback(str(mapped))):
            return "localhost"
        return str(mapped) if mapped is not None else f"[{address}]"
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise _refusal("the endpoint's host is no host name") from None
    host = _plain_host(host)
    if not host or not _HOST.issuperset(host) or ".." in host or host.startswith("."):
        raise _refusal("the endpoint's host is no host name")
    return host
