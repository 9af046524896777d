"""docs/reference.md knows every verb, key and variable; the README is short, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from places import REPOSITORY

import leasecap
from leasecap._config.schema import AGENT_KEYS, TABLES
from leasecap._status.feedback import PoolFeedback
from leasecap._status.model import (
    Holder,
    HttpRequest,
    ModelLatency,
    Percentiles,
    PoolStatus,
    SilentGate,
    StandingGate,
    Status,
    Waiter,
)
from leasecap.cli.main import VERBS

README = (REPOSITORY / "README.md").read_text()
REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()


def section(title: str) -> str:
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there(verb: str) -> None:
    assert f"`leasecap {verb}" in section("Verbs")


@pytest.mark.parametrize("key", sorted({key for keys in (*TABLES.values(), AGENT_KEYS) for key in keys}))
def test_every_key_is_there(key: str) -> None:
    where = section("Configuration") + section("Feedback") + section("A slot per request")
    assert f"`{key}`" in where or re.search(rf"^{key} = ", where, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(name for name in leasecap.__all__ if name[0].islower()))
def test_every_function_is_there(name: str) -> None:
    assert f"`leasecap.{name}(" in section("Library")


def test_every_variable_is_there() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "leasecap").rglob("*.py"))
    used = set(re.findall(r"\bLEASECAP_[A-Z_]+\b", code)) - {"LEASECAP_COMPLETE"}  # the shells' own, by `completion`
    assert used == set(re.findall(r"`(LEASECAP_[A-Z_]+)`", section("Environment")))


SHOWN = (
    *(Status, PoolStatus, Holder, Waiter, HttpRequest, PoolFeedback, ModelLatency, Percentiles),
    *(SilentGate, StandingGate),
)


@pytest.mark.parametrize("name", sorted({field.name for each in SHOWN for field in fields(each)}))
def test_every_field_of_status_is_there(name: str) -> None:
    assert f"`{name}`" in section("status")


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("page", ["README.md", "docs/reference.md"])
def test_links_lead_somewhere(page: str) -> None:
    text, folder = (REPOSITORY / page).read_text(), (REPOSITORY / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, heading = target.partition("#")
        linked = (folder / file) if file else (REPOSITORY / page)
        assert linked.exists(), target
        titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
        assert not heading or heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# A prompt of `python -m asyncio`: what is pasted is taken a line at a time.
PROMPT = """
import ast, asyncio, codeop, inspect, sys, types

async def paste(lines):
    compiler, names, taken = codeop.CommandCompiler(), {}, []
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for line in lines:
        taken.append(line)
        code = compiler("\\n".join(taken), "<pasted>", "single")
        if code is not None:
            taken = []
            result = types.FunctionType(code, names)()
            if inspect.iscoroutine(result):
                await result
    assert not taken, taken

asyncio.run(paste(sys.stdin.read().splitlines() + [""]))
"""


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_readme_block_can_be_pasted(root: Path, block: str) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.anthropic]\nlimit = 4\n")
    done = subprocess.run(
        [sys.executable, "-c", PROMPT],
        input=f"import leasecap\n{block}",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
