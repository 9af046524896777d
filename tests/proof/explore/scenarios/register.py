"""Where the scenarios are written down."""

from __future__ import annotations

from collections.abc import Callable

from explore.stage import Scenario, Stage

SCENARIOS: dict[str, Scenario] = {}


def scenario(about: str) -> Callable[[Callable[[], Stage]], Callable[[], Stage]]:
    """Add the stage that the function sets up, under the function's name."""

    def register(stage: Callable[[], Stage]) -> Callable[[], Stage]:
        SCENARIOS[stage.__name__] = Scenario(stage.__name__, about, stage)
        return stage

    return register
