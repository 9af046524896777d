"""What went wrong at a server, in words and with a remedy for people; and whether it may pass by itself."""

from __future__ import annotations

import re

from leasecap._errors import StoreError
from leasecap._redact import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.store_address import StoreAddress


class Unreachable(StoreError):
    """The store can't be used now, and that may pass by itself: it is worth trying again."""


_PASSES = {
    "LOADING": ("is still loading its data", "Wait until it has; `redis-cli INFO persistence` tells how far it is."),
    "MASTERDOWN": ("is a replica that has lost its master", "Bring the master back, or promote this one."),
    "READONLY": (
        "is a replica, which takes no writes",
        "Name the master in the address, or the Sentinels that know it: redis+sentinel://HOST:26379/SERVICE/DB",
    ),
    "CLUSTERDOWN": ("is a cluster that isn't whole", "See `redis-cli CLUSTER INFO`: each slot needs a node that runs."),
    "TRYAGAIN": ("is a cluster that is just moving the pool's keys", "Try again when they have been moved."),
    "BUSY": ("is busy with a script that takes too long", "See whose it is, and end it: `redis-cli SCRIPT KILL`"),
    "NOREPLICAS": (
        "takes no writes, since it has too few replicas",
        "Bring them back, or set min-replicas-to-write to what there are.",
    ),
}
_STAYS = {
    "NOAUTH": ("wants a password", "PASSWORD"),
    "WRONGPASS": ("refuses the user or the password", "PASSWORD"),
    "OOM": (
        "has no memory left (maxmemory)",
        "Raise maxmemory, or remove what fills it. Slots can still be released. Never let it evict keys of the store: "
        "maxmemory-policy noeviction",
    ),
    "MISCONF": (
        "takes no writes, since it can't save its data to disk",
        "Look into its log: the disk may be full or its directory not writable.",
    ),
    "CROSSSLOT": ("is a cluster, in which keys of one call lie apart", "This is a bug of leasecap: please report it."),
}
_PASSWORD = (
    "Give the password by password_env=VARIABLE or password_file=/PATH in the address. `leasecap run` takes the first, and "
    "a password in LEASECAP_STORE, out of its command's environment: use password_file where that runs leasecap again."
)
_LONGEST = 200


def fault(address: StoreAddress, error: BaseException) -> StoreError:
    """``error``, which redis-py or the operating system has raised, as an error about the store at ``address``."""
    if isinstance(error, StoreError):
        return error
    text = printable(str(error), _LONGEST)
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    missing = _missing_right(address, text)
    if missing is not None:
        return _error(StoreError, address, *missing)
    if code in _PASSES:
        return _error(Unreachable, address, *_PASSES[code])
    if code in _STAYS:
        what, remedy = _STAYS[code]
        return _error(StoreError, address, what, _PASSWORD if remedy == "PASSWORD" else remedy)
    lower = text.lower()
    for words, what, remedy in _TEXTS:
        if words in lower:
            return _error(StoreError, address, what, remedy)
    if type(error).__name__ == "ResponseError":
        remedy = "Run `leasecap doctor`, which tries out what a store needs."
        return _error(StoreError, address, f"answers: {text}", remedy)
    if "max number of clients" in lower:
        remedy = "Raise maxclients there, or see who holds connections: `redis-cli CLIENT LIST`"
        return _error(Unreachable, address, "has too many clients", remedy)
    return _error(Unreachable, address, f"can't be reached: {_reason(error, text)}", _REACH)


_REACH = "Check that it runs and that host, port and firewall are right (`redis-cli PING`). Nothing was granted meanwhile."

_TEXTS = (
    (
        "invalid password",
        "refuses the password",
        _PASSWORD,
    ),
    (
        "without any password configured",
        "has no password, and one was given",
        "Take the password out of the address, or set one there (requirepass, ACL SETUSER).",
    ),
    (
        "db index is out of range",
        "has no database of that number",
        "Name a lower one after the host, as redis://HOST:6379/0; `redis-cli CONFIG GET databases` tells how many it has.",
    ),
    (
        "select is not allowed in cluster mode",
        "is a cluster, which has the database 0 alone",
        "Write /0 after the host, or nothing.",
    ),
    (
        "certificate verify failed",
        "has a certificate that isn't trusted",
        "Name the file of who signed it as ca=/PATH in the address; the host there must be one that it was made out to.",
    ),
    (
        "wrong version number",
        "doesn't speak TLS on this port",
        "Write redis:// in place of rediss://, or name its TLS port.",
    ),
)


def _error(kind: type[StoreError], address: StoreAddress, what: str, remedy: str) -> StoreError:
    return kind(what, path=address.shown, remedy=remedy)


def _reason(error: BaseException, text: str) -> str:
    # redis-py repeats host and port, and numbers of errors.
    found = re.search(r"Error -?\d+ (?:connecting to|while \w+ \w+ socket)[^.]*\. (.*?)\.?$", text)
    if found:
        return found[1][:1].lower() + found[1][1:]
    if "timeout" in text.lower():
        return "it didn't answer in time"
    return text.rstrip(".") or type(error).__name__


def _missing_right(address: StoreAddress, text: str) -> tuple[str, str] | None:
    """What to say where the user lacks a right; None where it is another error."""
    if "no permissions to" not in text.lower():
        return None
    user = address.user or "default"
    command = re.search(r"the '([^' ]+)' command", text)
    if command:
        right = "+" + command[1].lower()
    elif "channel" in text:
        right = f"&{address.prefix}:*"
    else:
        right = f"~{address.prefix}:*"
    what = f"doesn't give the user {user} the right {right}"
    return what, f"redis-cli ACL SETUSER {user} '{right}'   (docs/reference.md has the whole line)"
