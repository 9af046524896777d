"""The proof: two processes compete for one slot, and their own clocks say whether both ever held it at once."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from secrets import token_hex

from leasecap._config.pool_name import pool_name
from leasecap._config.seal import seal
from leasecap._config.store_address import FILES
from leasecap._doctor.check import Check
from leasecap._doctor.place import scratch
from leasecap._doctor.rivals import compete
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leasecap._config.store_address import StoreAddress
    from leasecap._doctor.rivals import Holds

POOL = "doctor"
LIMIT = 1
_VARIABLE = "DOCTOR_STORE_PASSWORD"  # the variable of the processes that has the password


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cap is proved.

    :ivar kind: what it rests on there.
    :ivar if_both_hold, if_one_starves: what to do.
    """

    kind: str
    if_both_hold: str = "locks don't exclude here: put the root on a local disk"
    if_one_starves: str = "try again; if the machine is not overloaded, put the root on a faster, local disk"


_PLACES = {"os": Place("OS locks"), "directory": Place("lock directory")}
_SERVER = Place(
    "a server",
    "it doesn't keep what it was told; a proxy before it may send calls to several servers",
    "try again; if neither machine nor network is overloaded, see how long its round trips take",
)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the two lists of hold intervals show.

    :ivar rounds: how often each of the two held the slot.
    :ivar overlaps: holds that began while the other process held.
    :ivar hand_offs: nanoseconds from the end of a hold to the beginning of the other's, shortest first.
    """

    rounds: tuple[int, int]
    overlaps: int
    hand_offs: tuple[int, ...]


def judge(one: Holds, other: Holds) -> Judgement:
    """Compare the intervals, (begin, end) in nanoseconds of one clock for both processes."""
    holds = sorted([(*hold, 0) for hold in one] + [(*hold, 1) for hold in other])
    ends = [-1, -1]
    overlaps = 0
    hand_offs = []
    before = None
    for begin, end, who in holds:
        gap = begin - ends[1 - who]
        if gap < 0:
            overlaps += 1
        elif before == 1 - who:
            hand_offs.append(gap)
        ends[who] = max(ends[who], end)
        before = who
    return Judgement((len(one), len(other)), overlaps, tuple(sorted(hand_offs)))


def met(one: Holds, other: Holds) -> bool:
    """Whether both wanted the slot at the same time; else nothing is proved by the intervals."""
    return bool(one and other) and max(one[0][0], other[0][0]) < min(one[-1][1], other[-1][1])


def proof(ground: str, lock: str) -> Check:
    """Let two processes compete for the one slot of a pool, in a root made for that in ``ground``.

    :param lock: the kind of lock, as in config.toml.
    """
    with scratch(ground) as root:
        text = f'[defaults]\nlimit = {LIMIT}\nlock = "{lock}"\n'
        with open(os.path.join(root, "config.toml"), "w", encoding="ascii") as file:
            file.write(text)
        seal(root, text)
        settings = {"LEASECAP_HOME": root, "LEASECAP_STORE": FILES}
        return _proved("proof", POOL, settings, lambda: _PLACES[_kind_of(root)])


def server_proof(address: StoreAddress) -> Check:
    """Let two processes compete for the one slot of a pool on a server, which is made for that."""
    pool = f"{POOL}-{token_hex(8)}"
    with scratch(tempfile.gettempdir()) as root, runtime.server_trial(address, pool, LIMIT):
        settings = {"LEASECAP_HOME": root, **_environment(address)}
        return _proved("server proof", pool, settings, lambda: _SERVER)


def _environment(address: StoreAddress) -> dict[str, str]:
    """What names the server to the processes. A password is on no command line and in no file."""
    secret = {} if address.password is None else {_VARIABLE: address.password.reveal()}
    variables = {"password_env": _VARIABLE if secret else address.password_env}
    variables["sentinel_password_env"] = address.sentinel_password_env
    more = "&".join(f"{key}={variable}" for key, variable in variables.items() if variable)
    url = address.without_password
    return {**secret, "LEASECAP_STORE": f"{url}{'&' if '?' in url else '?'}{more}" if more else url}


def _proved(name: str, pool: str, settings: Mapping[str, str], place: Callable[[], Place]) -> Check:
    one, other = compete(pool, settings)
    if isinstance(one, str) or isinstance(other, str):
        found = f"a process that was to take the slot could not: {one if isinstance(one, str) else other}"
        return Check(name, "bad", found, "see the other findings; if all are ok, please report this one")
    judgement = judge(one, other)
    if all(judgement.rounds) and not judgement.overlaps and not met(one, other):
        found = "nothing is proved: two processes never wanted the slot at the same time, the machine is too busy"
        return Check(name, "note", found, "try again")
    return finding(name, judgement, place())


def _kind_of(root: str) -> str:
    pool = runtime.pictures(root).pool(pool_name(POOL), None)
    assert pool is not None  # both have used it
    return pool.lock


def finding(name: str, judgement: Judgement, place: Place) -> Check:
    """The judgement in words."""
    holds = sum(judgement.rounds)
    if judgement.overlaps:
        how_often = f"{judgement.overlaps} times in {holds} holds ({place.kind})"
        found = f"two processes held a single slot at the same time, {how_often}"
        return Check(name, "bad", found, place.if_both_hold)
    if not all(judgement.rounds):
        return Check(
            name,
            "bad",
            f"one of two processes never got a slot that it should have got in its turn ({place.kind})",
            place.if_one_starves,
        )
    typical = judgement.hand_offs[len(judgement.hand_offs) // 2] / 1e6 if judgement.hand_offs else 0.0
    return Check(
        name,
        "ok",
        f"2 processes held 1 slot {holds} times, never at once ({place.kind}); handed on in {typical:.1f} ms (p50)",
    )
