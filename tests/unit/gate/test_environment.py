from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from gate_commands import HOME, WORK, prepared

from leasecap._errors import ConfigError, LeasecapError
from leasecap._gate import environment
from leasecap._gate.clients import AGENTS, PROVIDERS, TOKEN_VARIABLE, Agent
from leasecap._gate.environment import private_path, read_file, write_files

GATE = "http://127.0.0.1:4000/TOK"


def refused(*argv: str, environ: dict[str, str] | None = None, files: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        prepared(*argv, environ=environ, files=files)
    return caught.value


def test_any_command_gets_the_variables_of_all_providers() -> None:
    found = prepared("python", "script.py", environ={"PATH": "/bin"})
    assert found.argv == ("python", "script.py")
    assert (found.own, found.files, found.warnings) == (None, {}, ())
    assert found.environment["PATH"] == "/bin"
    assert found.environment["ANTHROPIC_BASE_URL"] == found.environment["ANTHROPIC_API_BASE"] == f"{GATE}/anthropic"
    assert found.environment["OPENAI_BASE_URL"] == found.environment["OPENAI_API_BASE"] == f"{GATE}/openai/v1"
    assert found.environment["GOOGLE_GEMINI_BASE_URL"] == f"{GATE}/gemini"
    assert found.environment["OLLAMA_HOST"] == f"{GATE}/ollama"
    assert found.environment["GROQ_API_BASE"] == f"{GATE}/groq/openai/v1"
    assert found.environment[TOKEN_VARIABLE] == "TOK"
    assert set(found.upstreams) == set(PROVIDERS)
    assert {upstream.variable for upstream in found.upstreams.values()} == {""}
    assert found.upstreams["openai"].origin == "https://api.openai.com"


def test_an_address_that_is_set_is_the_upstream_and_keeps_its_path() -> None:
    found = prepared("sh", environ={"OPENAI_BASE_URL": "https://gateway.example.com:8443/team/v1/"})
    upstream = found.upstreams["openai"]
    assert (upstream.origin, upstream.base_path) == ("https://gateway.example.com:8443", "/team")
    assert upstream.variable == "OPENAI_BASE_URL"
    assert found.environment["OPENAI_BASE_URL"] == f"{GATE}/openai/team/v1/"
    assert found.environment["OPENAI_API_BASE"] == f"{GATE}/openai/team/v1"
    assert found.upstreams["anthropic"].origin == "https://api.anthropic.com"


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert prepared("sh", environ={"OPENAI_BASE_URL": " "}).upstreams["openai"].variable == ""


def test_a_local_upstream_is_fine() -> None:
    upstream = prepared("sh", environ={"ANTHROPIC_BASE_URL": "http://[::1]:8000"}).upstreams["anthropic"]
    assert (upstream.scheme, upstream.host, upstream.port) == ("http", "::1", 8000)


def test_a_gate_around_this_one_is_an_upstream() -> None:
    environ = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:5000/OUTER/anthropic", TOKEN_VARIABLE: "OUTER"}
    found = prepared("claude", environ=environ)
    assert found.upstreams["anthropic"].base_path == "/OUTER/anthropic"
    assert found.environment["ANTHROPIC_BASE_URL"] == f"{GATE}/anthropic/OUTER/anthropic"
    assert found.environment[TOKEN_VARIABLE] == "TOK"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("127.0.0.1:11500", "http://127.0.0.1:11500"),
        (":11500", "http://127.0.0.1:11500"),
        ("box", "http://box:11434"),
        ("https://ollama.example.com", "https://ollama.example.com"),
        ("http://0.0.0.0:11434", "http://127.0.0.1:11434"),
    ],
)
def test_ollama_host_is_read_as_ollama_does(text: str, origin: str) -> None:
    assert prepared("sh", environ={"OLLAMA_HOST": text}).upstreams["ollama"].origin == origin


def test_two_variables_that_say_the_same_are_no_conflict() -> None:
    environ = {"OPENAI_BASE_URL": "http://localhost:8000/v1", "OPENAI_API_BASE": "http://127.0.0.1:8000/other"}
    found = prepared("sh", environ=environ)
    assert found.environment["OPENAI_API_BASE"] == f"{GATE}/openai/other"


@pytest.mark.parametrize("other", ["https://b.example.com/v1", "http://a.example.com/v1", "https://a.example.com:1/v1"])
def test_two_variables_that_contradict_each_other_are_refused(other: str) -> None:
    error = refused("sh", environ={"OPENAI_BASE_URL": "https://a.example.com/v1", "OPENAI_API_BASE": other})
    assert error.file == "OPENAI_API_BASE"
    assert "OPENAI_BASE_URL" in str(error)


@pytest.mark.parametrize("text", ["https://user:hidden@a.example.com", "a.example.com/hidden", "https://a/?k=hidden"])
def test_what_is_no_address_is_refused_without_showing_it(text: str) -> None:
    error = refused("sh", environ={"ANTHROPIC_BASE_URL": text})
    assert error.file == "ANTHROPIC_BASE_URL"
    assert "hidden" not in str(error)


def test_no_proxy_gets_loopback_in_both_spellings() -> None:
    loopback = "127.0.0.1,localhost"
    environment = prepared("sh").environment
    assert environment["NO_PROXY"] == environment["no_proxy"] == loopback
    environment = prepared("sh", environ={"no_proxy": "a.example.com, localhost"}).environment
    assert environment["NO_PROXY"] == environment["no_proxy"] == "a.example.com,localhost,127.0.0.1"
    environment = prepared("sh", environ={"NO_PROXY": "a", "no_proxy": "*"}).environment
    assert (environment["NO_PROXY"], environment["no_proxy"]) == (f"a,{loopback}", "*")


def test_a_dotenv_that_may_be_read_is_refused() -> None:
    files = {f"{WORK}/.env": "# mine\nexport OPENAI_BASE_URL='http://hidden'\n"}
    error = refused("python", files=files)
    assert (error.file, error.key) == (f"{WORK}/.env", "OPENAI_BASE_URL")
    assert "hidden" not in str(error)
    assert prepared("claude", files=files).upstreams["openai"].variable == ""


def test_a_dotenv_below_the_environment_does_not_matter() -> None:
    files = {f"{WORK}/.env": "OPENAI_BASE_URL=http://a"}
    environ = {"OPENAI_BASE_URL": "http://b.example.com"}
    assert prepared("python", environ=environ, files=files).upstreams["openai"].host == "b.example.com"
    assert refused("aider", environ=environ, files=files).key == "OPENAI_BASE_URL"


def test_only_the_nearest_dotenv_is_read() -> None:
    files = {f"{WORK}/.env": "A=1", f"{HOME}/.env": "OPENAI_BASE_URL=http://a"}
    assert prepared("python", files=files).upstreams["openai"].variable == ""
    assert refused("python", files={f"{HOME}/.env": "OPENAI_BASE_URL=http://a"}).file == f"{HOME}/.env"
    assert refused("gemini", files={f"{WORK}/.gemini/.env": "GOOGLE_GEMINI_BASE_URL=http://a"}).key


@pytest.mark.parametrize("name", ["pi", "vibe"])
def test_an_agent_out_of_reach_says_what_to_do(name: str) -> None:
    with pytest.raises(LeasecapError, match="without --per-request"):
        prepared(f"/usr/bin/{name}")


def test_the_server_itself_is_refused() -> None:
    with pytest.raises(LeasecapError, match="ollama serve"):
        prepared("ollama", "serve")
    assert prepared("ollama", "run", "x").own == "ollama"


CONFIG = """
[gate.upstreams]
corp = "https://llm.example.com/v2"
mistral = "https://mistral.example.com/x/v1"
[gate.agents.mine]
provider = "corp"
variables = { MINE_URL = "{corp}/chat", MINE_MODE = "{}" }
arguments = ["--url", "{openai}/v1"]
[gate.agents.pi]
variables = { PI_URL = "{anthropic}" }
[gate.agents.claude]
provider = "zai"
"""


def test_upstreams_and_agents_of_config_toml_are_added() -> None:
    found = prepared("/opt/mine", "hi", config=CONFIG)
    assert found.own == "corp"
    assert found.argv == ("/opt/mine", "--url", "http://127.0.0.1:4000/-/openai/v1", "hi")
    assert found.environment["MINE_URL"] == f"{GATE}/corp/v2/chat"
    assert found.environment["MINE_MODE"] == "{}"
    assert (found.upstreams["corp"].origin, found.upstreams["corp"].base_path) == ("https://llm.example.com", "/v2")
    assert found.upstreams["mistral"].origin == "https://mistral.example.com"
    assert found.environment["MISTRAL_API_BASE"] == f"{GATE}/mistral/x/v1"
    assert prepared("pi", config=CONFIG).environment["PI_URL"] == f"{GATE}/anthropic"
    assert prepared("claude", config=CONFIG).own == "zai"


def test_the_environment_goes_above_config_toml() -> None:
    environ = {"MISTRAL_API_BASE": "https://other.example.com/v1"}
    assert prepared("sh", environ=environ, config=CONFIG).upstreams["mistral"].host == "other.example.com"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('provider = "nobody"', "gate.agents.mine.provider"),
        ('variables = { A = "{nobody}" }', "gate.agents.mine.variables"),
        ('arguments = ["{nobody}"]', "gate.agents.mine.arguments"),
    ],
)
def test_an_unknown_upstream_in_config_toml_is_refused(text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared("mine", config=f"[gate.agents.mine]\n{text}\n")
    assert (caught.value.file, caught.value.key) == ("/root/config.toml", key)
    assert "anthropic" in str(caught.value)


@pytest.mark.parametrize("argv", [("claude", "-p", "hi"), ("codex", "exec", "hi"), ("opencode", "run"), ("sh",)])
def test_no_argument_holds_the_token(argv: tuple[str, ...]) -> None:
    assert not any(
        "TOK" in word for word in prepared(*argv).argv if word != TOKEN_VARIABLE and TOKEN_VARIABLE not in word
    )


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    write_files(str(tmp_path / "private"), {"a.json": "{}"})
    assert stat.S_IMODE(os.stat(tmp_path / "private").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "private" / "a.json").st_mode) == 0o600
    assert read_file(str(tmp_path / "private" / "a.json")) == "{}"
    with pytest.raises(FileExistsError):
        write_files(str(tmp_path / "private"), {})


@pytest.mark.posix("owners and modes")
def test_files_go_where_nobody_else_can_write_if_there_is_such_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, open_to_all = tmp_path / "mine", tmp_path / "open"
    for directory, mode in ((mine, 0o700), (open_to_all, 0o777)):
        directory.mkdir()
        directory.chmod(mode)
    monkeypatch.setattr(environment, "_RUNTIME", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert private_path({"XDG_RUNTIME_DIR": str(mine)}, "name", os.getuid()) == str(mine / "name")
    assert private_path({"XDG_RUNTIME_DIR": str(open_to_all)}, "name", os.getuid()) == str(tmp_path / "name")
    assert private_path({}, "name", os.getuid()) == str(tmp_path / "name")
    monkeypatch.setattr(environment, "_RUNTIME", str(mine))
    assert private_path({"XDG_RUNTIME_DIR": str(open_to_all)}, "name", os.getuid()) == str(mine / "name")


def test_no_temporary_directory_is_no_trouble_before_files_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    monkeypatch.setattr(environment, "_RUNTIME", "/missing")
    assert private_path({"TMPDIR": "/full"}, "name", 0) == "/full/name"


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert read_file(str(tmp_path)) is None
    assert read_file(str(tmp_path / "none")) is None
    assert read_file("\0") is None


def test_nothing_of_the_given_environment_is_changed() -> None:
    environ = {"HOME": HOME, "OPENAI_BASE_URL": "http://a"}
    before = dict(environ)
    prepared("codex", environ=environ)
    assert environ == before


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS.keys())
def test_every_agent_says_how_it_is_reached_or_why_not(agent: Agent) -> None:
    assert bool(agent.reached) != bool(agent.left_to_user)
    variables = {variable.name for provider in PROVIDERS.values() for variable in provider.variables}
    named = {word.strip(",") for word in agent.reached.split() if word.strip(",").isupper()}
    assert named <= variables | {"OPENCODE_CONFIG_CONTENT"}
