"""`leasecap acquire`: a slot for a process that is not a child of ours, such as an interactive agent with hooks."""

from __future__ import annotations

import errno
import os
import sys
import time

import click

from leasecap._errors import AcquireTimeout, LeasecapError
from leasecap.cli._agents import agent_options, find_agent, warn_of_a_shell
from leasecap.cli._pools import chosen_pool
from leasecap.cli._say import Verb
from leasecap.cli._slot_options import Asked, slot_options


@click.command("acquire", cls=Verb)
@agent_options
@slot_options
def command(asked: Asked, pid: int | None, parent: str | None) -> int:
    """Take a slot for an agent that runs already, and print the lease's id.

    The agent is the process PID, or a parent of this one. It holds the slot until `leasecap release`, or until it ends.
    Meant for an agent's hooks: a slot from prompt to answer, not for a whole session at an idle prompt. An agent has
    one slot of a pool: who asks again for it gets the same lease, whose time then begins anew.

    Without -p the pool is LEASECAP_POOL, or [defaults] pool. Exit status 75 when no slot came in time.
    """
    from leasecap._api import acquire_with
    from leasecap._config.root import root_path
    from leasecap._runtime import runtime
    from leasecap._store.ticket import AgentHolds
    from leasecap._wait.blocking import ThreadWaiter

    agent = find_agent(pid, parent)
    if agent is None:
        raise click.UsageError("say who holds the slot: --for-pid PID, or --for-parent [NAME]")
    if pid is not None:
        warn_of_a_shell(pid)
    chosen = chosen_pool(asked.pool, None, runtime.root(root_path()).config)
    options = asked.options()._replace(agent=agent.process)
    began = runtime.own.effects.monotonic()
    try:
        lease = acquire_with(chosen, ThreadWaiter(), options, argv=agent.argv or None)
    except AcquireTimeout as error:
        return asked.refuse(error)
    except AgentHolds as held:
        asked.say_granted(
            chosen, f"{held.lease}, which pid {agent.process.pid} has already,", runtime.own.effects.monotonic() - began
        )
        _print(held.lease, "the agent keeps it")
        return 0
    try:
        agent.check()  # the agent may have ended while this waited
        # before the lease is handed over: without its id nobody could end it
        _print(lease.id, "the slot was given back")
        asked.note(lease, lambda: lease.hand_to(*agent.process), time.sleep)
    except BaseException:
        lease.release()
        raise
    asked.say_granted(lease.pool, lease.id, runtime.own.effects.monotonic() - began)
    return 0


def _print(lease: str, otherwise: str) -> None:
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        click.echo(lease)
    except OSError as error:
        if sys.stdout is not None:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())  # else Python would try to write it again at its end
        why = error.strerror or error
        raise LeasecapError(f"the lease's id could not be written to stdout ({why}): {otherwise}") from None
