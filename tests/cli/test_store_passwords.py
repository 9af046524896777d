"""What `leasecap run` starts gets no password of a store, and no text of ours shows one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commands import environment, run

SHOW = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")


@pytest.fixture
def config(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(
        '[pools.p]\nlimit = 1\nstore = "files"\n[pools.other]\nstore = "redis://host?password_env=CAP_PASSWORD"\n'
    )


@pytest.mark.posix("run")
@pytest.mark.parametrize("options", [(), ("--per-request",)], ids=["whole", "per-request"])
def test_a_command_gets_the_store_without_its_password(config: None, options: tuple[str, ...]) -> None:
    given = environment(LEASECAP_STORE="redis://me:hunter2@host:6379/1", CAP_PASSWORD="hunter2", KEPT="yes")
    done = run("run", *options, "-p", "p", "--", *SHOW, env=given)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["LEASECAP_STORE"] == "redis://me@host:6379/1"
    assert "CAP_PASSWORD" not in found
    assert found["KEPT"] == "yes"
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("limit",), ("run", "-p", "q", "true"), ("doctor",), ("acquire", "-p", "q", "--for-parent")],
)
def test_no_verb_shows_the_password_of_a_store(root: Path, arguments: tuple[str, ...]) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[pools.q]\nlimit = 1\nstore = "redis://me:hunter2@127.0.0.1:1/0"\n')
    for store in ("redis://me:hunter2@127.0.0.1:1/0", "redis://me:hun/ter2@127.0.0.1:1/0", "redis:/me:hunter2@a"):
        done = run(*arguments, env=environment(LEASECAP_STORE=store, LEASECAP_WAIT="0"))
        assert "ter2" not in done.stdout + done.stderr
    broken = '[pools.q]\nlimit = 1\nstore = "redis://me:hunter2@127.0.0.1:1/x"\n'
    (root / "config.toml").write_text(broken)
    done = run(*arguments)
    assert "ter2" not in done.stdout + done.stderr
    if arguments[0] != "limit":
        assert "pools.q.store" in done.stdout + done.stderr
