"""What went wrong at a server, in words and with a remedy for people; and whether it may pass by itself."""

from __future__ import annotations

import os
import re
from socket import gaierror
from ssl import SSLError

from redis.exceptions import AskError, ResponseError

from leasecap._errors import StoreError, Unreachable
from leasecap._named_tuple import NamedTuple
from leasecap._redact import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._config.store_address import StoreAddress


class _Fault(NamedTuple):
    """What to say.

    :ivar what: it goes on from the address.
    """

    what: str
    remedy: str
    passes: bool = False


_WAY_IN = (
    "Give the password by password_env=VARIABLE or password_file=/PATH in the address. `leasecap run` takes the first, "
    "and a password in LEASECAP_STORE, out of its command's environment: use password_file where that runs leasecap."
)
_REFUSED = _Fault("refuses the user or the password", _WAY_IN)

_CODES: Mapping[str, _Fault] = {
    "LOADING": _Fault("is still loading its data", "`redis-cli INFO persistence` tells how far it is.", passes=True),
    "MASTERDOWN": _Fault("is a replica without a master", "Bring the master back, or promote this one.", passes=True),
    "READONLY": _Fault(
        "is a replica, which takes no writes",
        "Name the master, or the Sentinels that know it: redis+sentinel://HOST:26379/SERVICE/DB",
        passes=True,
    ),
    "CLUSTERDOWN": _Fault(
        "is a cluster that isn't whole",
        "`redis-cli CLUSTER INFO` tells more: each slot needs a node that runs.",
        passes=True,
    ),
    "TRYAGAIN": _Fault("is a cluster that is just moving the pool's keys", "Wait for the end of that.", passes=True),
    "BUSY": _Fault("is busy with a script for too long", "If it doesn't end: `redis-cli SCRIPT KILL`", passes=True),
    "NOREPLICAS": _Fault(
        "takes no writes, since it has too few replicas",
        "Bring them back, or set min-replicas-to-write to what there are.",
        passes=True,
    ),
    "NOAUTH": _Fault("wants a password", _WAY_IN),
    "DENIED": _Fault(
        "has no password, so it takes nobody from another machine (protected mode)",
        "Set one there, as `redis-cli CONFIG SET requirepass PASSWORD` or by ACL SETUSER. " + _WAY_IN,
    ),
    "WRONGPASS": _REFUSED,
    "OOM": _Fault(
        "has no memory left (maxmemory)",
        "Raise maxmemory, or remove what fills it. It must never evict keys: maxmemory-policy noeviction",
    ),
    "MISCONF": _Fault(
        "takes no writes, since it can't save its data",
        "Its log tells why: a full disk, or a directory that it can't write to.",
    ),
    "CROSSSLOT": _Fault(
        "is a cluster, and the keys of a call lie apart", "This is a bug of leasecap: please report it."
    ),
}
_MOVING = _Fault(
    "is a cluster whose nodes don't agree on which one has the pool's keys",
    "They do soon after a move or a failover. If they don't: `redis-cli --cluster check HOST:PORT`",
    passes=True,
)
_BAD_PEM = _Fault(
    "is asked with a certificate or key that can't be used", "ca, cert and key in the address name files in PEM format."
)
_TEXTS: Mapping[str, _Fault] = {
    "invalid password": _REFUSED,
    "invalid username": _REFUSED,
    "without any password configured": _Fault(
        "has no password, and one was given",
        "Take the password out of the address, or set one there (requirepass, ACL SETUSER).",
    ),
    "db index is out of range": _Fault(
        "has no database of that number",
        "Name a lower one, as redis://HOST:6379/0; `redis-cli CONFIG GET databases` tells how many it has.",
    ),
    "select is not allowed in cluster mode": _Fault("is a cluster, which has one database", "Name no other than /0."),
    "certificate verify failed": _Fault(
        "has a certificate that isn't trusted",
        "Name the file of who signed it as ca=/PATH; the host in the address must be one that it was made out to.",
    ),
    "certificate required": _Fault(
        "wants a certificate of the client", "Name it as cert=/PATH, and its key as key=/PATH, in the address."
    ),
    "[x509": _BAD_PEM,
    "[pem": _BAD_PEM,
    "pem lib": _BAD_PEM,
    "wrong version number": _Fault("speaks no TLS here", "Write redis:// in place of rediss://, or name its TLS port."),
    "record layer failure": _Fault("speaks no TLS here", "Write redis:// in place of rediss://, or name its TLS port."),
    "max number of clients": _Fault(
        "has too many clients", "Raise maxclients, or see whose they are: `redis-cli CLIENT LIST`", passes=True
    ),
}
_LONGEST = 200


def fault(address: StoreAddress, error: BaseException) -> StoreError:
    """``error``, which redis-py or the operating system has raised, as an error about the store at ``address``."""
    # Servers without AUTH quote it whole: "unknown command 'AUTH', with args beginning with: 'USER' 'PASSWORD'"
    text = printable(str(error).partition(", with args beginning with")[0], _LONGEST)
    found = _missing_right(address, text) or _known(error, text) or _other(address, error, text)
    kind = Unreachable if found.passes else StoreError
    return kind(found.what, path=address.shown, remedy=found.remedy)


def _known(error: BaseException, text: str) -> _Fault | None:
    if isinstance(error, AskError):  # each one names another
        return _MOVING
    # redis-py takes the code out of the text where it has a class for it.
    code = getattr(error, "status_code", None) or text.partition(" ")[0]
    lower = text.lower()
    return _CODES.get(code) or next((found for words, found in _TEXTS.items() if words in lower), None)


def _missing_right(address: StoreAddress, text: str) -> _Fault | None:
    """What to say where the user lacks a right; None where it is another error."""
    # The second is what Redis 7.0 says of a command in a script.
    if not ("no permissions to" in text.lower() or "the user executing the script can't" in text.lower()):
        return None
    user = address.user or "default"
    command = re.search(r"'([^' ]+)' command", text)
    if command:
        right = f"+{command[1].lower()}"
    elif "channel" in text:
        right = f"&{address.prefix}:*"
    elif "key" in text:
        right = f"~{address.prefix}:*"
    else:
        remedy = f"`redis-cli ACL GETUSER {user}` shows what it has, docs/reference.md the whole line that it needs."
        return _Fault(f"doesn't give the user {user} the right to a command of the scripts", remedy)
    what = f"doesn't give the user {user} the right {right}"
    return _Fault(what, f"redis-cli ACL SETUSER {user} '{right}'   (docs/reference.md has the whole line)")


def _other(address: StoreAddress, error: BaseException, text: str) -> _Fault:
    if isinstance(error, ResponseError):
        return _Fault(f"answers: {text}", "Run `leasecap doctor`, which tries out what a store needs.")
    remedy = "Check that it runs, and host, port and firewall (`redis-cli PING`). Without it no slot is given out."
    if address.scheme == "rediss":
        remedy += " Does it speak TLS on this port? Does it want a certificate of the client (cert=/PATH, key=/PATH)?"
    return _Fault(f"can't be reached: {_reason(error, text)}", remedy, passes=True)


def _reason(error: BaseException | None, text: str) -> str:
    if "timeout" in text.lower():
        return "it didn't answer in time"
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__  # redis-py and asyncio put their own texts before the system's
    if isinstance(error, gaierror):
        text = str(error.strerror)
    elif error is not None and error.errno and not isinstance(error, SSLError):
        text = os.strerror(error.errno)
    return (text[:1].lower() + text[1:]).rstrip(".") or "the connection broke"
