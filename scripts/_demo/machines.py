"""Two machines that share a cap by a Redis between them."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from _machines.machines import HUB, Machines, NoMachinesError

from . import picture
from .stage import HERE, DemoError, Stage, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 3
JOBS = 6  # on each machine
SECONDS = (0.5, 0.8, 1.1)  # that they take, by turns
NAMES = ("laptop", "tower")
PATIENCE = 60.0  # seconds; it takes about a fifth of it

JOB = ["leasecap", "run", "-q", "-p", "demo", "--", "python", "job.py"]


class Machine(NamedTuple):
    """One of the two.

    :ivar under: what to put before a command that is to run there.
    :ivar root: of its own leasecap.
    """

    name: str
    under: list[str]
    root: str


def play(stage: Stage) -> list[str]:
    """Run and show it; what the cap was meant to keep and did not."""
    screen = stage.screen
    with contextlib.ExitStack() as ending:
        screen.heading(f"two machines, {' and '.join(NAMES)}, and a Redis between them")
        try:
            machines = ending.enter_context(Machines(*NAMES, apart=True))
            here = ["env", f"--chdir={HERE}"]  # which one leaves by entering a machine
            host, unders = HUB, [machines.under("hub"), *([*machines.under(name), *here] for name in NAMES)]
            screen.say("  Each is a network namespace with its own address, processes, name and LEASECAP_HOME.")
        except NoMachinesError as reason:
            host, unders = "127.0.0.1", [[], [], []]
            screen.say(f"  Here they are two roots on one machine, since {reason}.")
        port = ending.enter_context(redis_server(stage, host, unders[0]))
        url = f"redis://{host}:{port}/0"
        both = [
            Machine(name, under, stage.configure(f'[defaults]\nstore = "{url}"\n', name))
            for name, under in zip(NAMES, unders[1:], strict=True)
        ]
        return show(stage, both)


@contextlib.contextmanager
def redis_server(stage: Stage, host: str, under: list[str]) -> Iterator[int]:
    """One that is empty; its port."""
    program = shutil.which("redis-server")
    if program is None:
        raise DemoError("there is no redis-server (apt install redis-server, brew install redis)")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    options = ["--bind", host, "--port", str(port), "--save", "", "--dir", str(stage.directory)]
    options += ["--protected-mode", "no"]  # nobody else is on this network
    log = stage.directory / "redis.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [*under, program, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )
    try:
        end = time.monotonic() + 10
        while "ready to accept connections" not in log.read_text(errors="replace").lower():
            if server.poll() is not None or time.monotonic() > end:
                raise DemoError(f"redis-server did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def show(stage: Stage, both: list[Machine]) -> list[str]:
    screen, first = stage.screen, both[0]
    limit = ["leasecap", "limit", "demo", str(LIMIT)]
    screen.say(f"\n  {first.name}$ {' '.join(limit)}", "strong")
    screen.say(f"    {stage.ask(limit, first.under, LEASECAP_HOME=first.root).strip()}")
    for machine in both:
        screen.say(f"  {machine.name}$ {' '.join(JOB)}    # {JOBS} times at once", "strong")
    journal = stage.directory / "journal"
    journal.touch()
    begin = time.monotonic()
    started = {}
    for number in range(JOBS):
        for machine in both:
            log = stage.directory / f"{machine.name}-{number}.log"
            variables = {"LEASECAP_HOME": machine.root, "MACHINE": machine.name, "JOURNAL": str(journal)}
            job = [*JOB, str(SECONDS[number % len(SECONDS)])]
            started[log] = stage.start(job, log, machine.under, **variables)
    screen.say("  The server is new, so leasecap waits a moment for anybody who holds a slot to say so.", "faint")
    watch(stage, both, started, journal, begin)
    screen.progress("")
    check(started, "two machines")
    return tell(stage, journal.read_text().split("\n"), begin)


def watch(
    stage: Stage, both: list[Machine], started: dict[Path, subprocess.Popen[str]], journal: Path, begin: float
) -> None:
    """Wait for all; on the way show what the first machine sees once jobs of both hold."""
    screen, looked = stage.screen, False
    command = ["leasecap", "status", "demo"]
    while any(job.poll() is None for job in started.values()):
        done = journal.read_text().count("end ")
        screen.progress(f"  {done} of {len(started)} jobs done")
        if not looked and done:
            under, root = both[0].under, both[0].root
            holders = json.loads(stage.ask([*command, "--json"], under, LEASECAP_HOME=root))["pools"][0]["holders"]
            if len(holders) == LIMIT and (len({holder["host"] for holder in holders}) == 2 or not under):
                looked = True
                lines = stage.see(command, under, LEASECAP_HOME=root)
                screen.progress("")
                screen.say(f"\n  {both[0].name}$ {' '.join(command)}", "strong")
                for line in lines:
                    screen.say(f"    {line}")
        if time.monotonic() - begin > PATIENCE:
            raise DemoError(f"the jobs were not done after {PATIENCE:.0f} s")
        time.sleep(0.05)


def tell(stage: Stage, lines: list[str], begin: float) -> list[str]:
    """Draw what the jobs have noted; what is wrong with it."""
    screen = stage.screen
    events = sorted((int(moment) / 1e9 - begin, what, machine) for what, moment, machine in map(str.split, lines[:-1]))
    first = events[0][0] - 0.1 if events else 0.0
    records: dict[str, list[picture.Sample]] = {name: [(0.0, 0, 0)] for name in (*NAMES, "both")}
    for moment, what, machine in events:
        for name in (machine, "both"):
            level = records[name][-1][1] + (1 if what == "begin" else -1)
            records[name].append((moment - first, level, 0))
    seconds = records["both"][-1][0] + 0.1
    screen.heading("jobs at work on both, over time")
    chart = picture.chart(records["both"], LIMIT, seconds, screen.width, screen.ink, screen.paint)
    for line in chart[:-1]:  # the last one is about refusals
        screen.say(line)
    peaks = {name: max(level for _, level, _ in record) for name, record in records.items()}
    done = {name: sum(what == "end" and name in (machine, "both") for _, what, machine in events) for name in records}
    rows = [
        ("jobs done", *(str(done[name]) for name in records)),
        (f"at most at once (allowed: {LIMIT})", *(str(peaks[name]) for name in records)),
    ]
    head, *body = picture.table(list(records), rows)
    screen.say()
    screen.say(f"  {head}", "strong")
    for line in body:
        screen.say(f"  {line}")
    broken = broken_promises(done["both"], peaks["both"])
    if not broken:
        screen.say(f"\n{screen.check} two machines: {done['both']} jobs, {peaks['both']} at a time", "good")
    return broken


def broken_promises(done: int, peak: int) -> list[str]:
    """What has to be kept and was not, in words."""
    broken = []
    if done != 2 * JOBS:
        broken.append(f"only {done} of {2 * JOBS} jobs were done")
    if peak > LIMIT:
        broken.append(f"{peak} jobs worked at once on both machines: the cap did not hold")
    elif peak < LIMIT:
        broken.append(f"never more than {peak} jobs worked at once: slots stood empty")
    return broken
