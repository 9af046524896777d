"""Act three: agents that think between their requests. A slot for a whole run stands empty meanwhile; one per request
doesn't.
"""

from __future__ import annotations

from . import picture
from .cap import LIMIT, SEED, Crew, Run, run_agents
from .thinker import REQUESTS, THINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .stage import Screen, Stage

CREW = Crew(agents=9, requests=REQUESTS, shortest=0.2, longest=0.5, seed=SEED)
AGENT = ["python", "thinker.py"]
RUN = ["leasecap", "run", "-p", "demo", "--limit", str(LIMIT)]
LEASED, PER_REQUEST = [*RUN, "--", *AGENT], [*RUN, "--per-request", "--", *AGENT]


def play(stage: Stage) -> list[str]:
    """Run and show all three; what the one with a slot per request was meant to keep and did not."""
    screen = stage.screen
    screen.say(
        f"\nAgents think between requests: {CREW.agents} of them, {THINKS:g} s before each of {REQUESTS} requests."
    )
    runs = {
        "bare": run_agents(stage, "thinking", AGENT, CREW),
        "run": run_agents(stage, "a slot per run", LEASED, CREW),
        "run --per-request": run_agents(stage, "a slot per request", PER_REQUEST, CREW, look=True),
    }
    show(screen, runs)
    command = ["leasecap", "status", "--latency"]
    screen.heading(" ".join(command))
    screen.say(stage.ask(command).partition("\n\n")[2].rstrip())
    broken = broken_promises(runs["run"], runs["run --per-request"])
    if not broken:
        found = runs["run --per-request"]
        screen.say(f"\n{screen.check} per request: {found.refused} refused, {percent(found)} of the cap in use", "good")
    return broken


def percent(run: Run) -> str:
    return f"{run.use(LIMIT):.0%}"


def show(screen: Screen, runs: dict[str, Run]) -> None:
    seconds = max(run.seconds for run in runs.values())
    for name in ("run", "run --per-request"):
        screen.heading(f"{name}: requests in flight at the provider, over time")
        for line in picture.chart(runs[name].record, LIMIT, seconds, screen.width, screen.ink, screen.paint):
            screen.say(line)
    rows = [
        ("refused with 429", *(str(run.refused) for run in runs.values())),
        ("requests answered", *(str(run.answered) for run in runs.values())),
        ("use of the cap", *map(percent, runs.values())),
        ("wall time", *(f"{run.seconds:.1f} s" for run in runs.values())),
    ]
    head, *lines = picture.table(list(runs), rows)
    screen.say()
    screen.say(f"  {head}", "strong")
    for line in lines:
        screen.say(f"  {line}")


def broken_promises(leased: Run, per_request: Run) -> list[str]:
    """What a slot per request has to keep and did not, in words."""
    broken = []
    if per_request.refused:
        broken.append(f"with a slot per request {per_request.refused} were refused: the cap did not hold")
    if per_request.answered != CREW.agents * CREW.requests:
        broken.append(f"with a slot per request only {per_request.answered} requests were answered")
    if per_request.use(LIMIT) <= leased.use(LIMIT):
        broken.append(
            f"a slot per request used {percent(per_request)} of the cap, and a slot per run {percent(leased)}"
        )
    return broken
