"""What `leasecap gate --env` prints: lines for a shell that lead what is started there to the gate."""

from __future__ import annotations

import os
import shlex

import click

from leasecap._ancestry import place
from leasecap._config.root import make_root, root_path
from leasecap._errors import LeasecapError
from leasecap._gate.standing import PORT, declare, environment, keeping_paths
from leasecap._gate.upstreams import gate_url
from leasecap._runtime import runtime
from leasecap.cli._say import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leasecap._config.config import Config, PoolConfig
    from leasecap._store.picture import StandingGate

_QUOTES_OF_POWERSHELL = "'\u2018\u2019\u201a\u201b"


def give_out(port: int | None, shell: str | None, *, rotate: bool) -> None:
    """Make a new token if that is asked for, and print the lines for ``shell``, if one is given.

    :param port: None: of the gate that runs on this root, else the usual one.
    :raises LeasecapError: when the root, its configuration or the token can't be used.
    """
    root = root_path()
    make_root(root)
    token = runtime.gate_token(root)
    secret = token.rotate() if rotate else token.make()
    if shell is None:
        say("the token is new, and the addresses given out before are refused: `leasecap gate --env` has the new ones")
        return
    config = runtime.root(root).config
    gate = _running(root, port)
    if gate is not None:
        address, variables, upstreams = gate.address, gate.variables, gate.upstreams
    else:
        port = PORT if port is None else port
        declared = declare({}, config.gate, port)  # what this shell has set another one may start the gate without
        address, variables, upstreams = f"127.0.0.1:{port}", declared.variables, declared.told()
        say(f"no gate of this root runs on {address} yet: until `leasecap gate` does, what is sent there is refused")
    variables = keeping_paths(os.environ, variables, upstreams)
    metered = _metered(root, config, upstreams)
    for line in lines(shell, environment(os.environ, address, secret, variables, upstreams, metered)):
        click.echo(line)
    reached = {tail.partition("/")[0] for tail in variables.values()}
    for name, (_, tail) in upstreams.items():
        if name not in reached:
            click.echo(f"# {name}: {gate_url(address, secret, tail)}")


def _running(root: str, port: int | None) -> StandingGate | None:
    """The gate that is meant, if it runs."""
    try:
        gates = {gate.port: gate for gate in runtime.standing_gates(root).read()}
    except OSError:
        return None
    if port is None and len(gates) == 1:
        return next(iter(gates.values()))
    return gates.get(PORT if port is None else port)


def _metered(root: str, config: Config, upstreams: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Where requests take slots, by the name of each upstream for which they do."""
    pools = {name: config.pool(origin) for name, (origin, _) in upstreams.items()}
    away: set[str] = set()
    return {name: place(root, pool.name.directory) for name, pool in pools.items() if _is_metered(pool, away)}


def _is_metered(pool: PoolConfig, away: set[str]) -> bool:
    """Whether a request takes a slot.

    :param away: the servers that couldn't be asked, of which none is asked twice. No request is passed without a slot
        before its server has said that the pool has no limit.
    """
    if pool.limit is None and pool.store is not None and pool.store.name in away:
        return True
    try:
        return runtime.has_limit(pool)
    except LeasecapError as error:
        assert pool.store is not None
        away.add(pool.store.name)
        say(str(error))
        return True


def lines(shell: str, variables: Mapping[str, str]) -> Iterator[str]:
    """What sets the variables, as ``shell`` has it."""
    for name, text in variables.items():
        if shell == "fish":
            quoted = text.replace("\\", "\\\\").replace("'", "\\'")
            yield f"set -gx {name} '{quoted}'"
        elif shell == "powershell":
            quoted = "".join(2 * each if each in _QUOTES_OF_POWERSHELL else each for each in text)
            yield f"$env:{name} = '{quoted}'"
        else:
            yield f"export {name}={shlex.quote(text)}"
