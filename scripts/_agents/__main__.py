"""Play the clients and print what each did; see ``scripts/agents``. Exits with 1 when one of them failed."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from pathlib import Path

from .clients import CLIENTS
from .network import Lookups, enter, reason_against
from .packages import LacksError, install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .case import Result
    from .clients import Client

BUILD = Path(__file__).resolve().parents[2] / "build" / "agents"
QUEUED = ("claude",)  # played by two sessions, too
REFUSED = ("claude", "codex")  # and with refusals before the answer
MINUTES = 10  # for all of --ci


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/agents", description=__doc__)
    parser.add_argument("--ci", action="store_true", help="those that .ci/run plays; nothing may be missing")
    parser.add_argument("clients", nargs="*", metavar="CLIENT", help=f"of {', '.join(one.id for one in CLIENTS)}")
    parser.add_argument("--installed", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--unseen", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.clients) - {one.id for one in CLIENTS}:
        parser.error(f"no such client: {', '.join(sorted(unknown))}")
    chosen = [one for one in CLIENTS if one.id in given.clients or (not given.clients and (one.ci or not given.ci))]
    if given.ci:
        # One that is already set goes on: it outlives the change into the network of our own.
        signal.signal(signal.SIGALRM, overdue)
        signal.alarm(signal.alarm(0) or MINUTES * 60)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))  # an exception, so that all is ended
    try:
        return play(chosen, seen=not given.unseen) if given.installed else prepare(chosen, ci=given.ci)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def overdue(number: int, frame: object) -> NoReturn:
    sys.exit(f"agents: not done after {MINUTES} minutes")


def prepare(chosen: list[Client], *, ci: bool) -> int:
    """Install what lacks, and go on in a network of our own, where one can be had."""
    BUILD.mkdir(parents=True, exist_ok=True)
    lock = os.open(BUILD / "lock", os.O_CREAT | os.O_RDWR)
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("waiting for another scripts/agents ...", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    there = install_all(chosen, ci=ci)
    again = [sys.executable, "-m", "_agents", "--installed", *(["--ci"] if ci else []), *there]
    if reason := reason_against():
        if ci:
            sys.exit(f"agents: no network of its own can be made: {reason}")
        print(f"No network of its own can be made ({reason}): requests to other hosts aren't seen.", flush=True)
        os.execv(again[0], [*again, "--unseen"])
    enter(again)
    return 1


def install_all(chosen: list[Client], *, ci: bool) -> list[str]:
    """Install them; returns the ids of those that are there."""
    there = []
    for client in chosen:
        try:
            install(client, BUILD)
        except LacksError as error:
            if ci:
                sys.exit(f"agents: {client.name} can't be installed: {error}")
            print(f"{client.name} is left out: {error}", flush=True)
        else:
            there.append(client.id)
    if not there:
        sys.exit("agents: nothing is there to be played")
    return there


def play(chosen: list[Client], *, seen: bool) -> int:
    """Play them, and print the table."""
    from .case import Stage

    scratch = BUILD / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        del os.environ[name]
    os.environ["LEASECAP_HOME"] = str(scratch / "root")
    results = []
    with contextlib.ExitStack() as ending:
        lookups = ending.enter_context(Lookups()) if seen else None
        if lookups is not None and not lookups.works():
            sys.exit("agents: lookups of names can't be seen in the network of its own: is /etc/resolv.conf empty?")
        stage = Stage(BUILD, scratch, lookups)
        for client in chosen:
            results.append(told(stage.play(client)))
            if client.id in QUEUED:
                results.append(told(stage.play_queue(client)))
            if client.id in REFUSED:
                results.append(told(stage.play_refused(client)))
    broken = [result for result in results if result.broken]
    print("\n".join(["", *table(results)]), flush=True)
    for client in chosen:
        asked = {name for result in results if result.client is client for name in result.elsewhere}
        if asked:
            print(f"{client.name} also asked for {', '.join(sorted(asked))}, and got no answer.")
    if broken:
        print(f"agents: {len(broken)} failed; what they left is in {scratch}", file=sys.stderr)
        return 1
    shutil.rmtree(scratch, ignore_errors=True)
    return 0


def told(result: Result) -> Result:
    """The same, and a line about it."""
    name = " ".join((result.client.name, result.client.version, *([f"({result.what})"] if result.what else [])))
    print(f"{name}: {'FAILED' if result.broken else 'ok'}, {result.seconds:.1f} s", flush=True)
    for line in result.broken:
        print(f"  {line}", flush=True)
    return result


def table(results: list[Result]) -> list[str]:
    """One line for each case."""
    rows = [("client", "version", "through the gate by", "requests", "slots", "result")]
    rows += [
        (
            result.client.name + (f", {result.what}" if result.what else ""),
            result.client.version,
            result.client.reached,
            str(result.requests),
            str(result.slots),
            "FAILED" if result.broken else "ok",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())
