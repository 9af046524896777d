"""`leasecap gate` as a command: the lines of `--env` in real shells, what they lead to, and wrong usage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DEADLINE, PROGRAM, environment, run, status_json
from standing import free_port, lines_of

from leasecap.cli._gate_lines import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.posix("there is no `leasecap gate`")

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
WITHOUT = """
import sys
sys.modules["h11"] = None
from leasecap.cli.main import main
main()
"""
PRINT = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
SHELLS = {
    "sh": ('eval "$({program} gate --env sh)" && {print}', "sh"),
    "bash": ('eval "$({program} gate --env sh)" && {print}', "sh"),
    "zsh": ('eval "$({program} gate --env sh)" && {print}', "sh"),
    "fish": ("{program} gate --env fish | source; and {print}", "fish"),
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def given_out(*options: str, **more: str) -> str:
    done = run("gate", "--env", *options, env=environment(**more))
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["root", 'it\'s a \\ "root" $HOME `ls`'])
def test_a_shell_takes_the_lines(tmp_path: Path, shell: str, name: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    home = tmp_path / name
    text, _ = SHELLS[shell]
    done = subprocess.run(
        [shell, "-c", text.format(program=" ".join(PROGRAM), print=PRINT)],
        env=environment(LEASECAP_HOME=str(home)),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    seen = json.loads(done.stdout)
    token = (home / "gate" / "token").read_text().strip()
    assert seen["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:4283/{token}/anthropic"
    assert seen["OPENAI_BASE_URL"] == f"http://127.0.0.1:4283/{token}/openai/v1"
    assert seen["LEASECAP_GATE_TOKEN"] == token
    assert all(place.startswith(f"{home}/") for place in json.loads(seen["LEASECAP_GATE"])["pools"].values())


def test_powershell_takes_every_quote_twice() -> None:
    assert list(lines("powershell", {"A": "it's \u2018so\u2019 \u201a\u201b $x"})) == [
        "$env:A = 'it''s \u2018\u2018so\u2019\u2019 \u201a\u201a\u201b\u201b $x'"
    ]


@pytest.mark.parametrize(
    ("options", "shell", "begins"),
    [
        ((), "/bin/bash", "export "),
        ((), "/usr/bin/fish", "set -gx "),
        ((), "/opt/microsoft/powershell/7/pwsh", "$env:"),
        ((), "", "export "),
        (("fish",), "/bin/bash", "set -gx "),
        (("powershell",), "/bin/bash", "$env:"),
    ],
)
def test_the_shell_is_the_one_given_else_the_users(options: Sequence[str], shell: str, begins: str) -> None:
    told = given_out(*options, SHELL=shell).splitlines()
    assert all(line.startswith((begins, "# ")) for line in told)


def test_what_no_variable_leads_to_stands_in_comments(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[gate.upstreams]\ncorp = "https://llm.example.com/base/v1"\n')
    told = given_out()
    token = (root / "gate" / "token").read_text().strip()
    assert f"# corp: http://127.0.0.1:4283/{token}/corp/base/v1\n" in told
    assert f"# codex: http://127.0.0.1:4283/{token}/codex/v1\n" in told


def test_the_lines_lift_the_time_outs_of_agents() -> None:
    found = lines_of()
    assert (found["API_FORCE_IDLE_TIMEOUT"], found["API_TIMEOUT_MS"]) == ("0", "3600000")
    own = environment(API_TIMEOUT_MS="5")
    assert "API_TIMEOUT_MS" not in lines_of(**own)


def test_no_proxy_is_set_where_there_is_a_proxy() -> None:
    assert "NO_PROXY" not in lines_of()
    found = lines_of(**environment(https_proxy="http://proxy:3128", no_proxy="intern"))
    assert found["NO_PROXY"] == found["no_proxy"] == "intern,127.0.0.1,localhost"


def test_the_lines_say_which_pools_take_slots(root: Path) -> None:
    assert "anthropic" not in json.loads(lines_of()["LEASECAP_GATE"])["pools"]
    run("limit", "anthropic", "2")
    assert json.loads(lines_of()["LEASECAP_GATE"])["pools"]["anthropic"].startswith(f"{root}/anthropic-")


def test_without_a_gate_stderr_says_so_and_the_lines_stay() -> None:
    first, second = (run("gate", "--env") for _ in range(2))
    assert first.stdout == second.stdout != ""
    assert "no gate" in first.stderr and "127.0.0.1:4283" in first.stderr


def test_the_lines_can_be_taken_twice() -> None:
    once = lines_of()
    assert lines_of(**environment(**once)) == once


# -- what is set already ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ANTHROPIC_BASE_URL", "https://gateway.example.com/anthropic"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9000/v1"),
        ("OLLAMA_HOST", "gpu.example.com"),
        ("ZAI_API_BASE", "https://open.bigmodel.cn/api"),  # of the same pool, and another host
    ],
)
def test_an_address_that_the_gate_doesnt_know_is_never_led_elsewhere(name: str, text: str) -> None:
    done = run("gate", "--env", env=environment(**{name: text}))
    assert (done.returncode, done.stdout) == (1, "")
    assert name in done.stderr and "[gate.upstreams]" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "path"),
    [
        ("ANTHROPIC_BASE_URL", "https://api.anthropic.com/", "anthropic/"),
        ("OPENAI_BASE_URL", "https://api.openai.com", "openai"),
        ("OLLAMA_HOST", "localhost", "ollama"),
        ("OLLAMA_HOST", "0.0.0.0", "ollama"),
    ],
)
def test_an_address_that_the_gate_knows_keeps_its_path(name: str, text: str, path: str) -> None:
    found = lines_of(**environment(**{name: text}))
    assert found[name].endswith(f"{found['LEASECAP_GATE_TOKEN']}/{path}")


def test_an_address_in_the_configuration_can_be_set_as_well(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[gate.upstreams]\nanthropic = "https://gateway.example.com/a"\n')
    found = lines_of(**environment(ANTHROPIC_BASE_URL="https://gateway.example.com/a"))
    assert found["ANTHROPIC_BASE_URL"].endswith("/anthropic/a")


def test_an_address_that_is_none_names_its_variable() -> None:
    for words in (("--env",), ("--port", str(free_port()))):
        done = run("gate", *words, env=environment(ANTHROPIC_BASE_URL="not an address"))
        assert done.returncode == 1
        assert "ANTHROPIC_BASE_URL" in done.stderr


# -- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("--port", "0"),
        ("--port", "65536"),
        ("--port", "http"),
        ("--port", "1", "--port", "2"),
        ("--env", "cmd"),
        ("claude",),
        ("-p", "anthropic"),
    ],
)
def test_wrong_usage_starts_nothing(root: Path, words: Sequence[str]) -> None:
    done = run("gate", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert not root.exists()


def test_rotating_says_what_to_do_and_can_print_the_lines(root: Path) -> None:
    before = lines_of()
    done = run("gate", "--rotate")
    assert (done.returncode, done.stdout) == (0, "")
    assert "gate --env" in done.stderr
    after = (root / "gate" / "token").read_text().strip()
    assert after != before["LEASECAP_GATE_TOKEN"]
    assert f"/{after}/" not in run("gate", "--rotate", "--env").stdout


def test_a_missing_extra_is_told_and_the_lines_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.PROGRAM", (sys.executable, "-c", WITHOUT))
    done = run("gate", "--port", str(free_port()))
    assert done.returncode == 1
    assert "h11" in done.stderr and "pip install 'leasecap[gate]'" in done.stderr
    assert "ANTHROPIC_BASE_URL" in given_out()


def test_a_root_that_others_can_change_is_refused(root: Path) -> None:
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    for words in (("--env",), ("--rotate",), ("--port", str(free_port()))):
        done = run("gate", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert str(root) in done.stderr


def test_what_an_ended_gate_has_left_is_not_shown(root: Path) -> None:
    lines_of()
    (root / "gate" / "4283").write_text(json.dumps({"pid": 999_999, "start": 1, "boot": None, "pid_ns": None}))
    assert status_json()["gates"] == []
