"""leasecap is uninstalled, or replaced by another version, under processes that wait or hold: they end well."""

from __future__ import annotations

import ast
import compileall
import os
import shutil
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path

import click
import pytest
from commands import DEADLINE, run, status, until
from usage_server import says, serving

import leasecap
from leasecap import _kept_code
from leasecap._kept_code import LATER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[str]]

PACKAGE = Path(leasecap.__file__).parent

# What each worker does is its argument; it says when it is where the test may go on, and reads a line to go on itself.
WORKER = """
import asyncio, sys
import leasecap
def say(*words): print(*words, flush=True)
def hear(): sys.stdin.readline()
def lost(lease): say("LOST")
def waits(waiting): say("WAITS", waiting.position)
"""
HOLDS = "lease = leasecap.acquire('p', on_lost=lost, max_hold=MAX); say('HELD')\nhear()\n"
WAITS = "lease = leasecap.acquire('p', on_wait=waits); say('HELD')\nlease.report(200, ttfb=1.5); lease.release()\n"
WAITS_ASYNC = """
async def main():
    async with leasecap.slot("p", on_wait=waits) as lease:
        say("HELD")
        lease.report(429)
asyncio.run(main())
"""
GIVES_UP = """
try:
    leasecap.acquire("p", timeout=3)
except leasecap.AcquireTimeout as error:
    say("TIMEOUT", len(error.holders), error.why)
"""


@pytest.fixture(autouse=True)
def pool() -> None:
    assert run("limit", "p", "1").returncode == 0


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An installation of its own, of leasecap and click alone."""
    site = tmp_path / "site"
    for package in (PACKAGE, Path(click.__file__).parent):
        shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("*-pytest-*"))
    return site


@pytest.fixture(params=["uninstalled", "replaced"])
def end(request: pytest.FixtureRequest, site: Path) -> Callable[[], None]:
    """Does it."""

    def uninstall() -> None:
        shutil.rmtree(site)
        if request.param == "replaced":
            for path in PACKAGE.rglob("*.py"):
                other = site / "leasecap" / path.relative_to(PACKAGE)
                other.parent.mkdir(parents=True, exist_ok=True)
                other.write_text("raise ImportError('of another version')\n")

    return uninstall


@pytest.fixture
def start(site: Path, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(site)}
        pipe = subprocess.PIPE
        # Without `site` and away from the checkout, so that no other leasecap or click is found.
        argv = [sys.executable, "-S", *arguments]
        process = subprocess.Popen(
            argv, env=env, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")


def ends_well(process: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == status, err
    assert "Error" not in err and "Traceback" not in err
    return out, err


def a_provider_answers() -> None:
    """What makes everybody load the feedback: a refusal, and a pause of half a second."""
    assert run("report", "p", "--status", "429", "--retry-after", "0.5").returncode == 0


def test_run_that_waits(start: Start, end: Callable[[], None]) -> None:
    with leasecap.slot("p"):
        waiter = start("-m", "leasecap", "run", "-p", "p", "-v", "--", "sh", "-c", "echo ran; exit 3")
        until(lambda: status().waiting == 1)
        end()
        a_provider_answers()
        assert waiter.stderr is not None
        assert "waiting for p: 1/1" in waiter.stderr.readline()
    out, err = ends_well(waiter, 3)
    assert out == "ran\n"
    assert "ended with status 3" in err
    assert status().in_flight == 0


def test_run_that_holds_for_too_long(start: Start, end: Callable[[], None]) -> None:
    holder = start(
        *("-m", "leasecap", "run", "-p", "p", "--max-hold", "2s", "--", "sh", "-c", "echo held; exec sleep 60")
    )
    assert line(holder) == "held"
    end()
    a_provider_answers()
    _, err = ends_well(holder, 124)
    assert "gets TERM" in err
    assert status().in_flight == 0


def test_run_whose_provider_is_asked_over_http(start: Start, end: Callable[[], None]) -> None:
    with serving(says({"n": 0})) as server, leasecap.slot("p"):
        waiter = start("-m", "leasecap", "run", "-p", "p", "-v", "--", "echo", "ran")
        until(lambda: status().waiting == 1)
        end()
        # Only now has it a provider that is to be asked.
        (Path(os.environ["LEASECAP_HOME"]) / "config.toml").write_text(
            f'[pools.p]\nlimit = 2\nusage_url = "http://127.0.0.1:{server.port}/"\nusage_field = "n"\n'
        )
        out, _ = ends_well(waiter)
    assert out == "ran\n" and server.heads


def test_run_that_loses_its_lease(start: Start, end: Callable[[], None]) -> None:
    (Path(os.environ["LEASECAP_HOME"]) / "config.toml").write_text(
        "[pools.p]\nlimit = 1\nheartbeat = 0.1\nstale_after = 3\n"
    )
    holder = start("-m", "leasecap", "run", "-p", "p", "--", "sh", "-c", "echo held; read line")
    assert line(holder) == "held"
    end()
    assert run("release", status().holders[0].id, "--yes").returncode == 0
    assert holder.stderr is not None
    assert "was lost" in holder.stderr.readline()
    go_on(holder)
    ends_well(holder)


def test_acquire_that_waits_for_an_agent(start: Start, end: Callable[[], None]) -> None:
    agent = str(os.getpid())
    with leasecap.slot("p"):
        hooks = [start("-m", "leasecap", "acquire", "-p", "p", "--for-pid", agent) for _ in range(2)]
        until(lambda: status().waiting == 1)
        for hook in hooks:
            assert hook.stderr is not None
            assert "waiting" in hook.stderr.readline()
        end()
        a_provider_answers()
    assert len({ends_well(hook)[0] for hook in hooks}) == 1
    assert [str(holder.pid) for holder in status().holders] == [agent]


@pytest.mark.parametrize("code", [WAITS, WAITS_ASYNC], ids=["slot", "async"])
def test_library_that_waits(start: Start, end: Callable[[], None], code: str) -> None:
    with leasecap.slot("p"):
        waiter = start("-c", WORKER + code)
        until(lambda: status().waiting == 1)
        end()
        a_provider_answers()
        assert line(waiter) == "WAITS 1"
    assert line(waiter).startswith(("HELD", "WAITS"))
    ends_well(waiter)
    assert status().in_flight == 0


def test_library_that_gives_up(start: Start, end: Callable[[], None]) -> None:
    with leasecap.slot("p"):
        waiter = start("-c", WORKER + GIVES_UP)
        until(lambda: status().waiting == 1)
        end()
        a_provider_answers()
        assert line(waiter).startswith("TIMEOUT 1")
        ends_well(waiter)


@pytest.mark.parametrize("compiled", ["never", "before an edit"])
def test_what_was_not_compiled_is_kept_as_it_was_written(
    start: Start, site: Path, monkeypatch: pytest.MonkeyPatch, compiled: str
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    if compiled == "never":
        for folder in [*site.rglob("__pycache__")]:
            shutil.rmtree(folder)
    else:
        assert compileall.compile_dir(site, quiet=2)
        for path in site.rglob("*.py"):
            os.utime(path, (1, 1))
    with leasecap.slot("p"):
        waiter = start("-c", WORKER + WAITS)
        until(lambda: status().waiting == 1)
        shutil.rmtree(site)
        a_provider_answers()
        assert line(waiter) == "WAITS 1"
    ends_well(waiter)
    assert not site.exists(), "compiled for a leasecap that is gone"


def test_library_that_holds(start: Start, end: Callable[[], None]) -> None:
    more = "lease.report(429, retry_after=1); lease.release(); say('RELEASED', leasecap.status('p').pools[0].in_flight)"
    holder = start("-c", WORKER + HOLDS.replace("MAX", "None") + more)
    assert line(holder) == "HELD"
    end()
    a_provider_answers()
    go_on(holder)
    assert line(holder) == "RELEASED 0"
    ends_well(holder)


def test_library_that_holds_for_too_long(start: Start, end: Callable[[], None]) -> None:
    holder = start("-c", WORKER + HOLDS.replace("MAX", "1") + "say(bool(lease.expired)); lease.release()")
    assert line(holder) == "HELD"
    end()
    assert line(holder) == "LOST"
    go_on(holder)
    assert line(holder) == "True"
    ends_well(holder)


@pytest.mark.parametrize("place", [None, "a*place"])
def test_of_each_module_the_compiled_file_is_kept_that_an_import_looks_for(
    place: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None if place is None else str(tmp_path / place))
    kept = _kept_code._Kept(leasecap)
    for name in LATER:
        kept.keep(name)
    sources = [module.path for module in kept._modules.values()]
    assert len(sources) == len(LATER)
    compiled = [kept._compiled_of(source.removesuffix(".py")) for source in sources]
    assert compiled == [cache_from_source(source) for source in sources]


def test_a_python_that_caches_no_compiled_code_keeps_nothing_and_fails_at_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: str) -> str:
        raise NotImplementedError("sys.implementation.cache_tag is None")

    monkeypatch.setattr(_kept_code, "cache_from_source", refuse)
    kept = _kept_code._Kept(leasecap)
    kept.keep("_status")
    assert kept.find_spec("leasecap._status") is None


def imports(path: Path, *, late: bool) -> set[str]:
    """The modules of leasecap that a file imports in its functions, or else at its start."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    places: list[ast.AST] = [*functions] if late else [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    found = set()
    for node in (node for place in places for node in ast.walk(place)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "leasecap":
            module = (node.module or "").removeprefix("leasecap").removeprefix(".")
            names = [".".join(filter(None, (module, alias.name))) for alias in node.names]
            found |= {name for name in (module, *names) if name and file_of(name).is_file()}
    return found


def file_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def test_all_that_is_imported_late_is_kept() -> None:
    code = "import leasecap, sys; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    begun = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout.split()
    modules = {name.removeprefix("leasecap.") for name in begun if name.startswith("leasecap.")}
    loaded = {name for name in modules if file_of(name).is_file()}
    # By `leasecap limit`, `forget` and `doctor`; at a decoration. What talks to servers is loaded whole by the first
    # call that needs it.
    asked = {"_config.edit", "_file_store.forget", "_file_store.health", "_limited"}
    asked |= {"_redis_store.own_stores", "_redis_store.examination", "_redis_store.trial"}
    late: set[str] = set()
    found = {module for name in loaded for module in imports(file_of(name), late=True)}
    while more := found - loaded - asked - late:
        late |= more
        found = {module for name in more for when in (True, False) for module in imports(file_of(name), late=when)}
    late |= {module.partition(".")[0] for module in late} - modules  # the packages that they are in
    public = {module for module in LATER if module.startswith("_status")}  # by `leasecap.status`, wherever it is called
    assert late == set(LATER) - public
