"""The provider's count over HTTP: one GET, and a number at a path of the JSON that comes back.

No redirect is followed, so the key goes to no other host. What the server sends is shown nowhere, for it may send the
key back.
"""

from __future__ import annotations

import io
import json
import os
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from leasecap._config.usage import parse_url
from leasecap._redact import mask, printable
from leasecap._usage.no_count import NoCount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

    from leasecap._config.usage import UsageUrl
    from leasecap._feedback.rules import Rules

_MOST_BYTES = 1 << 18
_MOST = 10**9 - 1  # no provider counts more requests in flight
_HIGHEST_LIMIT = 10**6
_LONGEST = 200  # characters of what is told

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def count_at(rules: Rules) -> tuple[int, int | None]:
    """What the provider counts, and its own limit if ``usage_limit_field`` is set.

    :raises NoCount: it says nothing that can be used.
    """
    url = parse_url(rules.usage_url)
    headers = {"Accept": "application/json", "Connection": "close", "User-Agent": "leasecap"}
    if rules.usage_key_env:
        key = _key(rules.usage_key_env)
        headers |= {rules.usage_key_header: key} if rules.usage_key_header else {"Authorization": f"Bearer {key}"}
    try:
        answer = _answer(url, headers, rules)
    except NoCount as error:
        raise NoCount(printable(f"usage_url {url.shown}: {error}", _LONGEST)) from None
    count = _number(answer, "usage_field", rules.usage_field, 0, _MOST)
    if not rules.usage_limit_field:
        return count, None
    return count, _number(answer, "usage_limit_field", rules.usage_limit_field, 1, _HIGHEST_LIMIT)


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise NoCount(f"usage_key_env: the variable {variable} isn't set in this process")
    if not (key.isascii() and key.isprintable()):
        raise NoCount(f"usage_key_env: what the variable {variable} holds can't be sent in a header")
    return key


def _answer(url: UsageUrl, headers: dict[str, str], rules: Rules) -> Any:
    """The JSON that the server answers with."""
    until = time.monotonic() + rules.usage_timeout
    try:
        connection, target = _connection(url, rules.usage_timeout, headers)
        connection.response_class = lambda sock, **options: HTTPResponse(_Timed(sock, until), **options)  # type: ignore[assignment,arg-type]
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            _refuse(response, rules)
            body = response.read(_MOST_BYTES + 1)
        finally:
            connection.close()
    except TimeoutError:
        raise NoCount(f"no answer within {rules.usage_timeout:g} s (usage_timeout)") from None
    except ssl.SSLCertVerificationError as error:
        why = printable(str(error.verify_message), 60)
        raise NoCount(f"its certificate can't be trusted: {why} (SSL_CERT_FILE names other issuers)") from None
    except OSError as error:
        raise NoCount(printable(mask(error.strerror or str(error)), 80)) from None
    except (HTTPException, ValueError) as error:
        raise NoCount(f"its answer can't be read as HTTP ({type(error).__name__})") from None
    if len(body) > _MOST_BYTES:
        raise NoCount(f"its answer has more than {_MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise NoCount("its answer is no JSON") from None


def _refuse(response: HTTPResponse, rules: Rules) -> None:
    """:raises NoCount: for what is no success."""
    status = response.status
    if 200 <= status < 300:
        return
    what = f"it answered {status}"
    if 300 <= status < 400 and response.getheader("Location"):
        parts = urlsplit(response.getheader("Location", ""))
        where = f" to {printable(mask(f'{parts.scheme}://{parts.hostname}'), 60)}" if parts.hostname else ""
        raise NoCount(f"{what}, a redirect{where}, which isn't followed: write the address that it leads to")
    if status in (401, 403):
        which = f"is the key in {rules.usage_key_env} right?" if rules.usage_key_env else "usage_key_env names its key"
        raise NoCount(f"{what}: {which}")
    raise NoCount(f"{what}: a longer usage_interval asks less often" if status == 429 else what)


def _number(answer: Any, key: str, path: str, lowest: int, highest: int) -> int:
    """The whole number at ``path``."""
    found, walked = answer, "the answer"
    for step in path.split("."):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and len(step) < 7 and int(step) < len(found):
            found = found[int(step)]
        else:
            raise NoCount(printable(f"{key} {path}: {walked} has no {step!r}", _LONGEST))
        walked = repr(step)
    kind = type(found)
    if kind in _KINDS:
        raise NoCount(printable(f"{key} {path}: {_KINDS[kind]} stands there, and no number", _LONGEST))
    if kind is float and found.is_integer():  # as some languages write every number
        found = int(found)
    if not isinstance(found, int) or not lowest <= found <= highest:
        raise NoCount(printable(f"{key} {path}: what stands there is no whole number from {lowest} on", _LONGEST))
    return found


# -- the connection ---------------------------------------------------------------------------------------------------


def _connection(url: UsageUrl, seconds: float, headers: dict[str, str]) -> tuple[HTTPConnection, str]:
    """A connection, and what to write in the request line; through a proxy where the environment says so."""
    address = url.address
    secure = address.scheme == "https"
    context = ssl.create_default_context() if secure else None
    proxy = _proxy(url)
    if proxy is None:
        if context is None:
            return HTTPConnection(address.host, address.port, timeout=seconds), url.target
        return HTTPSConnection(address.host, address.port, timeout=seconds, context=context), url.target
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        raise NoCount(f"{address.scheme}_proxy in the environment names no http:// proxy; no other kind can be used")
    who: dict[str, str] = {}
    if parts.username is not None:
        from base64 import b64encode

        both = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        who["Proxy-Authorization"] = f"Basic {b64encode(both).decode()}"
    if context is None:
        headers |= who
        return HTTPConnection(host, port, timeout=seconds), address.origin + url.target
    connection = HTTPSConnection(host, port, timeout=seconds, context=context)
    connection.set_tunnel(address.host, address.port, who)
    return connection, url.target


def _proxy(url: UsageUrl) -> str | None:
    if url.is_on_this_machine:
        return None
    proxies = getproxies_environment()
    if proxy_bypass_environment(f"{url.address.host}:{url.address.port}", proxies):
        return None
    return proxies.get(url.address.scheme) or proxies.get("all") or None


class _Timed:
    """A socket for `HTTPResponse` whose reads all end at one time: a time-out alone begins anew with each byte."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reads(self._sock, self._until))


class _Reads(io.RawIOBase):
    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._until = until
        self._file = sock.makefile("rb", buffering=0)  # it keeps the socket open when the connection closes that

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
