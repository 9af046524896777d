"""Act two: the provider allows less than the pool was told. Its refusals are reported, and the pool finds the limit."""

from __future__ import annotations

import json
import time

from . import picture
from .agent import QUESTIONS
from .cap import AGENTS, LIMIT, PATIENCE, SEED
from .stage import DemoError, Referee, Stage, check

CONFIGURED = AGENTS  # as good as no cap
AGENT = ["python", "listener.py"]
SETTINGS = f"""[pools.demo]
limit = {CONFIGURED}
stagger = "100ms"          # between grants after a pause
probe_interval = "10s"     # between tries of one more, a minute by default
"""


def play(stage: Stage) -> list[str]:
    """Run and show it; what the pool was meant to find and did not."""
    screen = stage.screen
    screen.heading(f"feedback: {AGENTS} x  {' '.join(AGENT)}")
    screen.say(f"  The same provider allows {LIMIT}; the pool was told {CONFIGURED}. After each answer an agent calls")
    screen.say("  lease.report(status, retry_after=...), so what one of them hears, all of them know.")
    stage.configure(SETTINGS)
    referee = Referee(stage, LIMIT, SEED)
    begin = time.monotonic()
    agents = stage.start_all(AGENTS, "feedback", AGENT, referee)
    limits: list[picture.Sample] = [(0.0, CONFIGURED, 0)]
    said: list[str] = []
    while any(agent.poll() is None for agent in agents.values()):
        now = referee.measurements()
        pool = json.loads(stage.ask(["leasecap", "status", "demo", "--json"]))["pools"][0]
        limits.append((time.monotonic() - begin, pool["limit"], now["refused"]))
        said = (pool["feedback"] or {}).get("lines") or said
        screen.progress(f"  {now['answered']} answered, {now['refused']} refused, effective limit {pool['limit']}")
        if time.monotonic() - begin > PATIENCE:
            raise DemoError(f"the feedback run was not over after {PATIENCE:.0f} s")
    seconds = time.monotonic() - begin
    screen.progress("")
    check(agents, "feedback")
    found = referee.measurements()
    screen.say(f"  done in {seconds:.1f} s: {found['answered']} requests answered, {found['refused']} refused")
    screen.heading(f"feedback: the effective limit, over time (real: {LIMIT}, configured: {CONFIGURED})")
    for line in picture.chart(limits, LIMIT, seconds, screen.width, screen.ink, screen.paint):
        screen.say(line)
    screen.say("\n  and `leasecap status` said why:", "faint")
    for line in said:
        screen.say(f"    {line}")
    broken = broken_promises(limits[-1][1], found["answered"])
    if not broken:
        screen.say(f"\n{screen.check} feedback: told {CONFIGURED}, found {limits[-1][1]}", "good")
    return broken


def broken_promises(limit: int, answered: int) -> list[str]:
    """What the run has to come to and did not, in words."""
    broken = []
    if answered != AGENTS * len(QUESTIONS) * 2:
        broken.append(f"only {answered} requests were answered")
    if not 1 <= limit <= LIMIT + 1:
        broken.append(f"the effective limit ended at {limit}, and the provider allows {LIMIT}")
    return broken
