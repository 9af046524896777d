"""`leasecap run`: any command, under a cap."""

from __future__ import annotations

import os
import sys
from threading import Event

import click

from leasecap._errors import AcquireTimeout, LeaseLost, StoreError
from leasecap.cli._pools import chosen_pool
from leasecap.cli._say import Verb, say
from leasecap.cli._slot_options import Asked, slot_options

TYPE_CHECKING = False
assert not TYPE_CHECKING or sys.platform != "win32"  # there it only refuses, below
if TYPE_CHECKING:
    from collections.abc import Mapping

    from leasecap._lease import Lease
    from leasecap.cli._signals import SignalGate
    from leasecap.cli._supervise import Outcome


@click.command("run", cls=Verb, context_settings={"allow_interspersed_args": False})
@slot_options
@click.option(
    "--per-request",
    is_flag=True,
    help="Start CMD at once: each request that it makes takes a slot, and no slot while it makes none.",
)
@click.argument("command", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def command(context: click.Context, asked: Asked, command: tuple[str, ...], per_request: bool) -> int:
    """Run CMD as soon as POOL has a free slot, and keep the slot until CMD ends.

    Without -p the pool is that of CMD in [commands] of the configuration, LEASECAP_POOL, or [defaults] pool.

    The exit status is that of CMD; 75 when no slot came in time, 124 when CMD held it for longer than --max-hold and
    was ended (with TERM, and after --kill-after with KILL), 125 when leasecap itself failed, 126 when CMD can't be
    executed, 127 when it isn't found.
    """
    if sys.platform == "win32":
        raise StoreError(
            "`leasecap run` needs POSIX signals and process groups", path=sys.platform, remedy="use the library here"
        )
    # First of all: signals have to be blocked before any thread starts.
    from leasecap._api import acquire_with
    from leasecap._config.command_environment import environment_of_commands
    from leasecap._config.root import root_path
    from leasecap._runtime import runtime
    from leasecap.cli._signals import Interrupted, SignalGate
    from leasecap.cli._supervise import Outcome, SpawnError, die_like, spawn, supervise

    gate = SignalGate()
    if per_request:
        return _run_per_request(context, gate, asked, command)
    started = Event()
    options = asked.options()._replace(on_lost=lambda lease: _say_lost(lease) if started.is_set() else None)
    config = runtime.root(root_path()).config
    chosen = chosen_pool(asked.pool, command[0], config)
    environment = environment_of_commands(config)
    began = runtime.own.effects.monotonic()
    try:
        if _takes_its_slots_at_a_gate(chosen):
            say(f"each request of this command takes a slot of {chosen} at the gate around it, so it gets no other")
            return die_like(supervise(gate, spawn(gate, command, environment)))
        lease = acquire_with(chosen, gate, options, argv=command)
        asked.say_granted(lease.pool, lease.id, runtime.own.effects.monotonic() - began)
        with lease:
            outcome = _run(gate, asked, lease, command, environment, started)
    except AcquireTimeout as error:
        return asked.refuse(error)
    except SpawnError as error:
        say(str(error))
        return error.status
    except Interrupted as interrupted:
        outcome = Outcome(signal=interrupted.signum)
    _say_end(asked, outcome)
    return die_like(outcome)


def _say_end(asked: Asked, outcome: Outcome) -> None:
    if asked.verbose:
        say(f"ended with {f'signal {outcome.signal}' if outcome.signal else f'status {outcome.exit_status}'}")


def _run_per_request(context: click.Context, gate: SignalGate, asked: Asked, argv: tuple[str, ...]) -> int:
    from leasecap.cli._per_request import check_options, run_per_request
    from leasecap.cli._signals import Interrupted
    from leasecap.cli._supervise import Outcome, SpawnError, die_like

    given = context.get_parameter_source("no_slot") == click.core.ParameterSource.COMMANDLINE
    check_options(asked, status_given=given)
    try:
        outcome = run_per_request(gate, asked, argv)
    except SpawnError as error:
        say(str(error))
        return error.status
    except Interrupted as interrupted:
        outcome = Outcome(signal=interrupted.signum)
    _say_end(asked, outcome)
    return die_like(outcome)


def _takes_its_slots_at_a_gate(pool: str) -> bool:
    """Whether a slot held here would be one that its own requests wait for at the gate around it.

    Where a gate sees who asks, it takes their lease into account.
    """
    from leasecap._host.sockets import SEES_PEERS

    if SEES_PEERS:
        return False
    from leasecap._ancestry import is_same_pool, place
    from leasecap._config.root import root_path
    from leasecap._provider.chain import metered_places
    from leasecap._runtime import runtime

    root = runtime.root(root_path())
    here = place(root.path, root.config.pool(pool).name.directory)
    return any(is_same_pool(one, here) for one in metered_places(os.environ))


def _run(
    gate: SignalGate,
    asked: Asked,
    lease: Lease,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    started: Event,
) -> Outcome:
    from leasecap._host.process import start_of
    from leasecap._liveness.record import PENDING, Child
    from leasecap.cli._supervise import spawn, supervise

    def note(pid: int) -> None:
        start = start_of(pid)
        child = PENDING if start is None else Child(pid, start)
        asked.note(lease, lambda: lease.note_child(child), gate.wait)
        started.set()
        if lease.lost:
            raise LeaseLost(lease.pool, lease.id, why=lease.loss or None)

    lease.watch_doubt(gate.wake)
    child = spawn(gate, argv, {**env, **lease.env()}, lease.liveness_fd, note)
    return supervise(gate, child, lease.hold, lease.ends_in)


def _say_lost(lease: Lease) -> None:
    if lease.expired:
        return  # `supervise` tells, and ends it
    say(f"lease {lease.id} of pool {lease.pool} was lost ({lease.loss}): the command runs on beside the cap")
