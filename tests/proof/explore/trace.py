"""A schedule in words: what each actor did, in the order in which it happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from explore.explorer import stretch
from explore.memory_fs import Failed
from explore.scenarios import SCENARIOS
from explore.scheduler import Violation

if TYPE_CHECKING:
    from explore.stage import Scenario, Stage

_NAME = re.compile(r"\d{3}-[0-9a-f]{16}-([a-p])0*([0-9a-f]+)-[0-9a-f]{12}-[0-9a-f]+(?:-[0-9a-f-]+)?")
_TOKEN = re.compile(r"\b([a-p])0{8}0*([0-9a-f]+)\b")
_WORDS = {
    "!": "{} is killed",
    "~": "{} is stopped",
    "+": "time passes, and {} is continued",
    "=": "{} is blocked",
    "?": "what {} did was in vain",
    ".": "time passes",
}


def replay(line: str, scenarios: dict[str, Scenario] | None = None) -> str:
    """Run one schedule, as a failure prints it, and return it in words; ends with what goes wrong, if anything does."""
    name, _, choices = line.partition(":")
    stage = (scenarios or SCENARIOS)[name].stage()
    stage.world.log = []
    wrong = ""
    try:
        for choice in stretch(choices):
            stage.do(choice)
        if not any(actor.alive for actor in stage.world.actors):
            stage.newcomer()
    except Violation as violation:
        wrong = f"\n*** {violation}"
    finally:
        told = describe(stage)
        stage.world.close()
    return told + wrong


def describe(stage: Stage) -> str:
    """The log of a stage's world: a line for each run of steps of one actor."""
    lines: list[tuple[str, list[str]]] = []
    for who, operation, args, outcome in stage.world.log or []:
        if not operation:
            lines.append(("", [_WORDS[who[0]].format(who[1:])]))
        elif lines and lines[-1][0] == who:
            lines[-1][1].append(_step(operation, args, outcome))
        else:
            lines.append((who, [_step(operation, args, outcome)]))
    return "\n".join(f"{who or '-':2} {'; '.join(steps)}" for who, steps in lines)


def _step(operation: str, args: tuple[Any, ...], outcome: Any) -> str:
    if operation == "rename":
        said = f"{args[0]} -> {args[1]}"
    else:
        said = " ".join((operation, *(arg for arg in args if isinstance(arg, str))))
    if isinstance(outcome, Failed):
        said += f" = {errno_name(outcome.errno)}"
    elif isinstance(outcome, bool) or (isinstance(outcome, str) and outcome != "early"):
        said += f" = {outcome}"
    elif isinstance(outcome, tuple) and operation == "list":
        said += f" = [{', '.join(outcome)}]"
    return _TOKEN.sub(r"\1\2", _NAME.sub(r"\1\2", said))


def errno_name(number: int) -> str:
    import errno

    return errno.errorcode[number]
