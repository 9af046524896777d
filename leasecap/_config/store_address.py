"""Where a pool's store stands: the URL in ``store`` and ``LEASECAP_STORE``.

    redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...][/DB]   several are nodes of one cluster
    rediss://...                                                  the same over TLS
    unix://[USER[:PASSWORD]@]/PATH[?db=DB]
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB]
    rediss+sentinel://...                                         TLS to the Sentinels as well

No text that is made here has a password in it, the representation of an address neither.
"""

from __future__ import annotations

from functools import lru_cache

from leasecap._errors import ConfigError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Literal, Never

    Scheme = Literal["redis", "rediss", "unix"]

FILES = "files"
"""The word that keeps a pool in the root's files, whatever the default is."""

PREFIX = "leasecap"

REDIS_PORT, SENTINEL_PORT = 6379, 26379

STORE_ALLOWED = (
    f'"{FILES}", or the URL of a Redis or Valkey: redis://HOST:PORT/DB, rediss://... (TLS), unix:///PATH, '
    "redis://HOST:PORT,HOST:PORT (nodes of a cluster), redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB"
)
_MASK = "***"
_LONGEST = 2048  # characters
_LONGEST_PREFIX = 64
_HIGHEST_DB = 65535
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset("0123456789")
_NAME = _LETTERS | _DIGITS | frozenset("._-")
_PREFIX = _NAME | {":"}  # no braces: a pool's keys have a hash tag of their own


class Secret:
    """A password, which no text shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class StoreAddress(NamedTuple):
    """Where a store stands, and how to get in.

    :ivar hosts: the server, nodes of a cluster, or the Sentinels that know it; empty for a Unix socket.
    :ivar path: of the Unix socket, else "".
    :ivar service: what the Sentinels call the server; "" where there are none.
    :ivar prefix: what the names of keys and channels begin with.
    :ivar user: "" for the default one.
    :ivar password: the one in the URL.
    :ivar password_env, password_file: the variable, or the file, that has the password.
    :ivar sentinel_password_env: the variable that has the password of the Sentinels.
    :ivar ca, cert, key: files (PEM): who signs the server's certificate, the client's own, and the key to that.
    """

    scheme: Scheme
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    db: int
    prefix: str = PREFIX
    user: str = ""
    password: Secret | None = None
    password_env: str = ""
    password_file: str = ""
    sentinel_password_env: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""

    def __str__(self) -> str:
        return self.shown

    @property
    def name(self) -> str:
        """What tells this store from others, and nothing that lets one in."""
        return self._text("")

    @property
    def shown(self) -> str:
        """`name` with the user, for people."""
        has_password = self.password is not None or self.password_env or self.password_file
        user = self.user + (f":{_MASK}" if has_password else "")
        return self._text(f"{user}@" if user else "")

    @property
    def without_password(self) -> str:
        """The URL without the password and the names of variables that have one."""
        options = {name: getattr(self, name) for name in ("password_file", "ca", "cert", "key")}
        return self._text(f"{_quoted(self.user, '')}@" if self.user else "", options)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that have passwords."""
        return tuple(filter(None, (self.password_env, self.sentinel_password_env)))

    def _text(self, user: str, options: Mapping[str, str] = {}) -> str:  # it is only read
        scheme = f"{self.scheme}+sentinel" if self.service else self.scheme
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        rest = f"{hosts}/{self.service and self.service + '/'}{self.db}" if hosts else _quoted(self.path)
        query = {"db": str(self.db) if self.scheme == "unix" and self.db else ""}
        query |= {"prefix": self.prefix if self.prefix != PREFIX else "", **options}
        tail = "&".join(f"{key}={_quoted(value)}" for key, value in query.items() if value)
        return f"{scheme}://{user}{rest}" + (f"?{tail}" if tail else "")


def parse_store(value: object) -> StoreAddress | None:
    """What ``store`` names; None for `FILES`.

    :raises ValueError: if it is no text.
    :raises ConfigError: if it is neither; its value is masked.
    """
    if not isinstance(value, str):
        raise ValueError
    return None if value == FILES else parse_address(value)


@lru_cache(maxsize=16)
def parse_address(text: str) -> StoreAddress:
    """The address in a URL.

    :raises ConfigError: if it is none; its value is masked.
    """
    return _Parser(text).address()


class _Parser:
    """Reads one URL. Not by urllib.parse, which leaves out what it finds odd and repeats passwords in its errors."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _refuse(self, message: str, allowed: str = f"allowed: {STORE_ALLOWED}") -> Never:
        raise ConfigError(message, value=masked(self._text), allowed=allowed)

    def address(self) -> StoreAddress:
        text = self._text
        if len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
            self._refuse("the address of a store is one printable ASCII word; other characters are written as %XX")
        start, found, rest = text.partition("://")
        scheme, sentinel = start.removesuffix("+sentinel"), start.endswith("+sentinel")
        if not found or not (scheme in ("redis", "rediss") or (scheme == "unix" and not sentinel)):
            self._refuse("this is no address of a store")
        rest, _, fragment = rest.partition("#")
        if fragment:
            self._refuse_rest("#")
        rest, _, query = rest.partition("?")
        if "@" in query:
            self._refuse_rest("?")
        authority, slash, path = rest.partition("/")
        if "@" in path:
            self._refuse_rest("/")
        credentials, at, hosts = authority.rpartition("@")
        if "@" in credentials:
            self._refuse_rest("@")
        user, colon, password = credentials.partition(":")
        options = self._options(query, scheme, sentinel)
        fields: dict[str, object] = {"user": self._decoded(user), **options}
        if password or (at and colon):
            fields["password"] = Secret(self._decoded(password))
        if ("password" in fields) + ("password_env" in options) + ("password_file" in options) > 1:
            self._refuse("the password is given more than once", "Give it in the URL, or by one of the two keys.")
        if "key" in options and "cert" not in options:
            self._refuse("a key without its certificate", "Name the client's certificate as cert=/PATH.")
        if scheme == "unix":
            if hosts or not path:
                self._refuse("a Unix socket is given by its absolute path", "for example unix:///run/redis/redis.sock")
            db = self._db(str(options.get("db", "0")))
            fields.pop("db", None)
            return StoreAddress("unix", (), slash + self._decoded(path), "", db, **fields)  # type: ignore[arg-type]
        service, db_text = "", path
        if sentinel:
            service, _, db_text = path.partition("/")
            if not service or not _NAME.issuperset(service):
                self._refuse(
                    "the name of the Sentinels' service is missing, or has an odd character",
                    "for example redis+sentinel://host-a:26379,host-b:26379/mymaster/0",
                )
        port = SENTINEL_PORT if sentinel else REDIS_PORT
        places = tuple(self._host(host, port) for host in hosts.split(","))
        db = self._db(db_text or "0")
        return StoreAddress(scheme, places, "", service, db, **fields)  # type: ignore[arg-type]

    def _refuse_rest(self, mark: str) -> Never:
        self._refuse(
            f"the address has a {mark} where none belongs, which may be part of a password",
            "In a user or password, write each character but letters and digits as %XX, as %40 for @; or give the "
            "password by password_env=VARIABLE or password_file=/PATH.",
        )

    def _options(self, query: str, scheme: str, sentinel: bool) -> dict[str, str]:
        known = dict(_OPTIONS)
        if scheme != "unix":
            del known["db"]
        if scheme != "rediss":
            for key in ("ca", "cert", "key"):
                del known[key]
        if not sentinel:
            del known["sentinel_password_env"]
        options: dict[str, str] = {}
        for pair in filter(None, query.split("&")):
            key, _, value = pair.partition("=")
            if key not in known:
                self._refuse_option(key, known)
            value = self._decoded(value)
            if key in options or not known[key][0](value):
                twice = " twice" if key in options else ""
                self._refuse(f"{key} can't be used{twice}", f"allowed: {key} is {known[key][1]}")
            options[key] = value
        return options

    def _refuse_option(self, key: str, known: Mapping[str, object]) -> Never:
        if key in ("ca", "cert", "key"):
            self._refuse(f"{key} is for TLS alone", "Write rediss:// for TLS.")
        if key == "password":
            self._refuse(
                "a password has no key of its own", "allowed: redis://:PASSWORD@HOST, or password_env=VARIABLE"
            )
        if key == "db":
            self._refuse("db is a key of unix:// alone", "Write the database after the host: redis://HOST:6379/0")
        self._refuse("the address has a key that is unknown here", "allowed: " + ", ".join(known))

    def _host(self, text: str, port: int) -> tuple[str, int]:
        host, colon, number = text.rpartition(":")
        if not colon or "]" in number:
            host, number = text, str(port)
        if not (number.isdigit() and len(number) <= 5 and 1 <= int(number) <= 65535):
            self._refuse("the port is not between 1 and 65535")
        if host.startswith("[") and host.endswith("]"):
            from ipaddress import IPv6Address

            try:
                return str(IPv6Address(host[1:-1])), int(number)
            except ValueError:
                self._refuse("what stands in the brackets is no IPv6 address")
        host = host.lower().rstrip(".")
        if not host or not _NAME.issuperset(host) or ".." in host or host.startswith("."):
            self._refuse("the host is missing, or no host name" + ("; an IPv6 address needs []" if ":" in host else ""))
        return host, int(number)

    def _db(self, text: str) -> int:
        if not (_is_number(text) and int(text) <= _HIGHEST_DB):
            self._refuse("the database is no number", f"allowed: a whole number from 0 to {_HIGHEST_DB}, as in /0")
        return int(text)

    def _decoded(self, text: str) -> str:
        from urllib.parse import unquote

        try:
            decoded = unquote(text, errors="strict")
        except UnicodeDecodeError:
            self._refuse("what stands as %XX is no UTF-8")
        if "\0" in decoded or "\n" in decoded or "\r" in decoded:
            self._refuse("a line end or a zero stands there as %XX")
        return decoded


def masked(text: str) -> str:
    """``text`` without what may be a password, whatever is wrong with it."""
    from leasecap._redact import mask

    start, found, rest = text.partition("://")
    if not found:
        return f"{_MASK}@{text.rpartition('@')[2]}" if "@" in text else mask(text)
    rest, _, query = rest.partition("?") if "@" not in rest.partition("?")[2] else (rest, "", "")
    credentials, at, place = rest.rpartition("@")
    if not at:
        place = _without_passwords(place)
    user, colon, _ = credentials.partition(":")
    safe = user if _NAME.issuperset(user) and colon else _MASK
    shown = f"{safe}:{_MASK}@" if at and colon else f"{mask(credentials)}@" if at else ""
    pairs = (pair.partition("=") for pair in filter(None, query.split("&")))
    tail = "&".join(f"{key}={value if key in _OPTIONS else _MASK}" for key, _, value in pairs)
    return f"{start}://{shown}{place}" + (f"?{tail}" if tail else "")


def _without_passwords(place: str) -> str:
    """The hosts of an address in which no @ stands. It may be missing, and a password be taken for a host or port."""
    hosts, slash, path = place.partition("/")
    return ",".join(each if _is_place(each) else _MASK for each in hosts.split(",")) + slash + path


def _is_place(text: str) -> bool:
    host, _, port = (text, "", "") if text.endswith("]") or ":" not in text else text.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    return (not port or port.isdigit()) and (_NAME.issuperset(host[1:-1].replace(":", "") if in_brackets else host))


def _quoted(text: str, safe: str = "/:") -> str:
    from urllib.parse import quote

    return quote(text, safe=f"{safe}._-~")


def _is_number(text: str) -> bool:
    return 0 < len(text) <= 5 and _DIGITS.issuperset(text)


def _is_prefix(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_PREFIX and _PREFIX.issuperset(text)


def _is_variable(text: str) -> bool:
    return bool(text) and text[0] not in _DIGITS and (_LETTERS | _DIGITS | {"_"}).issuperset(text)


def _is_path(text: str) -> bool:
    return (text.startswith("/") or text[1:3] == ":/") and text.isprintable()


_VARIABLE = "the name of a variable of the environment"
_PATH = "an absolute path"

_OPTIONS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "prefix": (_is_prefix, f"1 to {_LONGEST_PREFIX} letters, digits and any of . _ - :"),
    "db": (_is_number, "a whole number, as 0"),
    "password_env": (_is_variable, _VARIABLE),
    "password_file": (_is_path, _PATH),
    "sentinel_password_env": (_is_variable, _VARIABLE),
    "ca": (_is_path, _PATH),
    "cert": (_is_path, _PATH),
    "key": (_is_path, _PATH),
}
