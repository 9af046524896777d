"""Real agents, and what a session of each does: a few requests, one after the other, with work of its own between."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

BUILD = Path(__file__).resolve().parents[3] / "build" / "agents"
REQUESTS = 5  # of a session of Claude Code or of an SDK
RUNS = 3  # of Codex in a session, of a request each

ASKS = {
    "anthropic": "anthropic.Anthropic(max_retries=20).messages.create(model='m', max_tokens=5, messages=asked).content",
    "openai": "openai.OpenAI(max_retries=20).chat.completions.create(model='m', messages=asked).choices",
}
SDK = f"""
import time, {{name}}
asked = [{{{{"role": "user", "content": "hi"}}}}]
for _ in range({REQUESTS}):
    assert {{asks}}
    time.sleep(0.2)
"""
MIXED = ("claude", "codex", "openai", "claude", "codex", "anthropic")


class Session(NamedTuple):
    """What one agent does.

    :ivar argv: of one run of it.
    :ivar times: how often it runs.
    """

    argv: tuple[str, ...]
    times: int = 1


def sessions() -> dict[str, Session]:
    """Of each agent that is there."""
    found = {}
    if claude := program("claude"):
        found["claude"] = Session((claude, "-p", "Read the file, again and again."))
    if codex := program("codex"):
        found["codex"] = Session((codex, "exec", "--skip-git-repo-check", "hi"), RUNS)
    for name, asks in ASKS.items():
        if python := python_with(name):
            found[name] = Session((python, "-c", SDK.format(name=name, asks=asks)))
    return found


def places() -> Iterator[Path]:
    """Where programs of npm are: in the environments of scripts/agents, and on PATH."""
    yield from (BUILD / "node_modules" / ".bin", *BUILD.glob("*/node_modules/.bin"))
    yield from map(Path, os.environ.get("PATH", "").split(os.pathsep))


def program(name: str) -> str | None:
    return next((found for place in places() if (found := shutil.which(name, path=str(place)))), None)


def python_with(package: str) -> str | None:
    """One that has the package, in the environments of scripts/agents."""
    for place in sorted(BUILD.glob(f"*/lib/python3.*/site-packages/{package}/__init__.py")):
        return str(place.parents[4] / "bin" / "python")
    return None


def home(directory: Path, url: str) -> Mapping[str, str]:
    """A home for one session, and what its environment has beside: nothing that leads anywhere but to ``url``."""
    work, codex = directory / "work", directory / ".codex"
    for each in (work, codex):
        each.mkdir(parents=True)
    (work / "file").write_text("nothing\n" * 20)
    (codex / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": "nobody"}))
    (codex / "config.toml").write_text(f'openai_base_url = "{url}/v1"\n')
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TERM": "dumb",
        "ANTHROPIC_BASE_URL": url,
        "OPENAI_BASE_URL": f"{url}/v1",
        "ANTHROPIC_API_KEY": "nobody",
        "OPENAI_API_KEY": "nobody",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
