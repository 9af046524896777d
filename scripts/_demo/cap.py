"""Act one: a dozen agents and a provider that allows three requests in flight, without leasecap and with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from . import picture
from .agent import QUESTIONS
from .stage import DemoError, Referee, Screen, Stage, check

LIMIT = 3
AGENTS = 12
SEED = 12  # the same answers take the same time in both runs
PATIENCE = 60.0  # seconds for one run; it takes about a tenth of it

AGENT = ["python", "agent.py"]
LEASED = ["leasecap", "run", "-p", "demo", "--limit", str(LIMIT), "--", *AGENT]


@dataclass(frozen=True)
class Crew:
    """The agents of a run, and how long the provider takes for each of their requests, in seconds."""

    agents: int = AGENTS
    requests: int = len(QUESTIONS)
    shortest: float = 0.3
    longest: float = 1.0
    seed: int = SEED


@dataclass(frozen=True)
class Run:
    """What the provider measured while the agents ran, with times from the start of the first agent."""

    record: list[picture.Sample]
    answered: int
    refused: int
    seconds: float

    @property
    def peak(self) -> int:
        return max((in_flight for _, in_flight, _ in self.record), default=0)

    def use(self, limit: int) -> float:
        """The share of the limit that was in use, from the first request to the end of the last."""
        if len(self.record) < 2:
            return 0.0
        pairs = zip(self.record, self.record[1:], strict=False)
        used = sum(min(in_flight, limit) * (end - begin) for (begin, in_flight, _), (end, _, _) in pairs)
        return used / limit / (self.record[-1][0] - self.record[0][0])


def play(stage: Stage) -> list[str]:
    """Run and show both; what the leased run was meant to keep and did not."""
    screen = stage.screen
    screen.say(f"A provider on loopback allows {LIMIT} requests in flight and answers any more with 429.")
    screen.say(f"{AGENTS} agents, each a process of its own, send it {len(QUESTIONS)} requests each, all at once.")
    bare = run_agents(stage, "bare", AGENT, Crew())
    leased = run_agents(stage, "leased", LEASED, Crew(), look=True)
    show(screen, bare, leased)
    broken = broken_promises(leased)
    if not broken:
        screen.say(f"\n{screen.check} leased: {leased.refused} refused, and all {leased.peak} slots in use", "good")
    return broken


def run_agents(stage: Stage, name: str, command: Sequence[str], crew: Crew, *, look: bool = False) -> Run:
    """Run the command for each agent at once against a provider of its own; on the way, `look` at `leasecap status`."""
    screen = stage.screen
    screen.heading(f"{name}: {crew.agents} x  {' '.join(command)}")
    referee = Referee(stage, LIMIT, crew.seed, crew.shortest, crew.longest)
    begin = time.monotonic()
    agents = stage.start_all(crew.agents, name.replace(" ", "-"), command, referee)
    while running := sum(agent.poll() is None for agent in agents.values()):
        now = referee.measurements()
        screen.progress(
            f"  {now['answered']} of {crew.agents * crew.requests} requests answered, {now['refused']} refused"
        )
        if look and now["answered"] >= crew.agents // 2 and now["in_flight"] >= LIMIT < running:
            look = False
            show_status(stage)
        if time.monotonic() - begin > PATIENCE:
            raise DemoError(f"the {name} run was not over after {PATIENCE:.0f} s")
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    screen.progress("")
    check(agents, name)
    found = referee.measurements()
    record = [(when - begin, in_flight, refused) for when, in_flight, refused in found["record"]]
    run = Run(record, found["answered"], found["refused"], seconds)
    screen.say(f"  done in {run.seconds:.1f} s: {run.answered} requests answered, {run.refused} refused")
    return run


def show_status(stage: Stage) -> None:
    text = stage.ask(["leasecap", "status"])
    stage.screen.progress("")
    stage.screen.say("  in the middle of it, `leasecap status` says:", "faint")
    for line in text.rstrip().splitlines():
        stage.screen.say(f"    {line}")


def show(screen: Screen, bare: Run, leased: Run) -> None:
    runs = {"bare": bare, "leased": leased}
    seconds = max(run.seconds for run in runs.values())  # one scale, so that the pictures can be compared
    for name, run in runs.items():
        screen.heading(f"{name}: requests in flight at the provider, over time")
        for line in picture.chart(run.record, LIMIT, seconds, screen.width, screen.ink, screen.paint):
            screen.say(line)
    rows = [
        ("refused with 429", *(str(run.refused) for run in runs.values())),
        (f"peak in flight (allowed: {LIMIT})", *(str(run.peak) for run in runs.values())),
        ("requests answered", *(str(run.answered) for run in runs.values())),
        ("wall time", *(f"{run.seconds:.1f} s" for run in runs.values())),
    ]
    head, *lines = picture.table(list(runs), rows)
    screen.say()
    screen.say(f"  {head}", "strong")
    for line in lines:
        screen.say(f"  {line}")


def broken_promises(leased: Run) -> list[str]:
    """What the leased run has to keep and did not, in words."""
    broken = []
    if leased.refused:
        broken.append(f"the leased run was refused {leased.refused} times: the cap did not hold")
    if leased.peak < LIMIT:
        broken.append(f"the leased run never had {LIMIT} requests in flight, only {leased.peak}: slots stood empty")
    return broken
