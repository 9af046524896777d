"""Each agent's own configuration: where it is read, what it decides, and how the gate still gets in between."""

from __future__ import annotations

import json
import tomllib

import pytest
from gate_commands import HOME, PRIVATE, WORK, prepared

from leasecap._errors import ConfigError

GATE = "http://127.0.0.1:4000/TOK"
BARE = "http://127.0.0.1:4000/-"
URL = "https://gateway.example.com/team"


def settings(**env: str) -> str:
    return json.dumps({"model": "m", "env": env})


def refused(
    *argv: str, environ: dict[str, str] | None = None, files: dict[str, str] | None = None
) -> tuple[str | None, str | None]:
    with pytest.raises(ConfigError) as caught:
        prepared(*argv, environ=environ, files=files)
    assert "hidden" not in str(caught.value)
    return caught.value.file, caught.value.key


# Claude Code


def test_claude_needs_variables_alone() -> None:
    found = prepared("/usr/bin/claude", "-p", "hi")
    assert (found.argv, found.files, found.own) == (("/usr/bin/claude", "-p", "hi"), {}, "anthropic")
    assert found.environment["API_FORCE_IDLE_TIMEOUT"] == "0"
    assert int(found.environment["API_TIMEOUT_MS"]) > 600_000
    assert prepared("claude", environ={"API_TIMEOUT_MS": "5"}).environment["API_TIMEOUT_MS"] == "5"


def test_claude_searches_tools_where_its_requests_end_at_anthropic() -> None:
    for environ in ({}, {"ANTHROPIC_BASE_URL": "https://api.anthropic.com/"}):
        assert prepared("claude", environ=environ).environment["ENABLE_TOOL_SEARCH"] == "true"
    assert "ENABLE_TOOL_SEARCH" not in prepared("claude", environ={"ANTHROPIC_BASE_URL": URL}).environment
    assert prepared("claude", environ={"ENABLE_TOOL_SEARCH": "false"}).environment["ENABLE_TOOL_SEARCH"] == "false"


def test_claude_settings_become_the_upstream_and_are_overridden() -> None:
    files = {f"{HOME}/.claude/settings.json": settings(ANTHROPIC_BASE_URL=f"{URL}/")}
    found = prepared("claude", "-p", "hi", environ={"ANTHROPIC_BASE_URL": "http://lower.example.com"}, files=files)
    assert found.argv == ("claude", "--settings", f"{PRIVATE}/claude-settings.json", "-p", "hi")
    written = json.loads(found.files["claude-settings.json"])
    assert written == {"env": {"ANTHROPIC_BASE_URL": f"{GATE}/anthropic/team/"}}
    upstream = found.upstreams["anthropic"]
    assert (upstream.origin, upstream.variable) == ("https://gateway.example.com", f"{HOME}/.claude/settings.json")
    assert found.environment["ANTHROPIC_BASE_URL"] == f"{GATE}/anthropic/team"


def test_claude_config_dir_is_where_its_settings_are() -> None:
    files = {"/cfg/settings.json": settings(ANTHROPIC_BASE_URL=URL)}
    found = prepared("claude", environ={"CLAUDE_CONFIG_DIR": "/cfg"}, files=files)
    assert found.upstreams["anthropic"].host == "gateway.example.com"
    assert prepared("claude", files=files).upstreams["anthropic"].host == "api.anthropic.com"


def test_claude_project_settings_count_once_trusted() -> None:
    path = f"{WORK}/.claude/settings.local.json"
    files = {
        path: settings(ANTHROPIC_BASE_URL="http://local.example.com"),
        f"{WORK}/.claude/settings.json": settings(ANTHROPIC_BASE_URL="http://project.example.com"),
        f"{HOME}/.claude/settings.json": settings(ANTHROPIC_BASE_URL=URL),
    }
    assert refused("claude", files=files) == (path, "env.ANTHROPIC_BASE_URL")
    for trusted in (WORK, f"{HOME}/src"):
        files[f"{HOME}/.claude.json"] = json.dumps({"projects": {trusted: {"hasTrustDialogAccepted": True}}})
        assert prepared("claude", files=files).upstreams["anthropic"].host == "local.example.com"
    files[f"{HOME}/.claude.json"] = json.dumps({"projects": {WORK: {"hasTrustDialogAccepted": False}}})
    assert refused("claude", files=files)


@pytest.mark.parametrize(
    "argv", [("--settings", settings(ANTHROPIC_BASE_URL=URL)), ("--settings=/s.json",), ("--settings", "s.json")]
)
def test_claude_settings_argument_is_merged(argv: tuple[str, ...]) -> None:
    files = {path: settings(ANTHROPIC_BASE_URL=URL, OTHER="1") for path in ("/s.json", f"{WORK}/s.json")}
    found = prepared("claude", *argv, "-p", "hi", files=files)
    assert found.argv == ("claude", "--settings", f"{PRIVATE}/claude-settings.json", "-p", "hi")
    written = json.loads(found.files["claude-settings.json"])
    assert (written["model"], written["env"]["ANTHROPIC_BASE_URL"]) == ("m", f"{GATE}/anthropic/team")


def test_claude_settings_argument_stays_where_it_says_no_address() -> None:
    argv = ("claude", "--settings", '{"model": "m"}', "--", "--settings")
    assert prepared(*argv).argv == argv


def test_claude_managed_settings_are_refused() -> None:
    files = {
        path: settings(ANTHROPIC_BASE_URL=URL)
        for path in (
            "/etc/claude-code/managed-settings.json",
            "/Library/Application Support/ClaudeCode/managed-settings.json",
        )
    }
    assert refused("claude", files=files)[1] == "env.ANTHROPIC_BASE_URL"


def test_claude_settings_that_cannot_be_read_are_refused() -> None:
    path = f"{HOME}/.claude/settings.json"
    assert refused("claude", files={path: '{"hidden": '})[0] == path
    assert refused("claude", files={path: settings(ANTHROPIC_BASE_URL="http://a:hidden@b")})[0] == path


def test_claude_on_another_way_is_told() -> None:
    files = {f"{HOME}/.claude/settings.json": settings(CLAUDE_CODE_USE_VERTEX="1")}
    found = prepared("claude", environ={"CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_USE_FOUNDRY": "0"}, files=files)
    assert ["CLAUDE_CODE_USE_BEDROCK" in found.warnings[0], "CLAUDE_CODE_USE_VERTEX" in found.warnings[1]] == [True] * 2
    assert len(found.warnings) == 2


# Codex


def overrides(argv: tuple[str, ...]) -> dict[str, object]:
    """What the arguments that were inserted set."""
    lines = [argv[place + 1] for place, word in enumerate(argv) if word == "-c"]
    return tomllib.loads("\n".join(lines))


def codex(*argv: str, text: str = "", environ: dict[str, str] | None = None) -> dict[str, object]:
    found = prepared("codex", *argv, environ=environ, files={f"{HOME}/.codex/config.toml": text})
    return overrides(found.argv)


def test_codex_gets_a_provider_of_ours() -> None:
    found = prepared("codex", "exec", "hi", environ={"OPENAI_BASE_URL": "http://localhost:8000/v1"})
    assert found.argv[-2:] == ("exec", "hi")
    written = overrides(found.argv)
    assert written["model_provider"] == "leasecap"
    assert written["model_providers"] == {
        "leasecap": {
            "name": "OpenAI",
            "base_url": f"{BARE}/codex/v1",
            "wire_api": "responses",
            "requires_openai_auth": True,
            "env_http_headers": {
                "x-leasecap-gate": "LEASECAP_GATE_TOKEN",
                "OpenAI-Organization": "OPENAI_ORGANIZATION",
                "OpenAI-Project": "OPENAI_PROJECT",
            },
        }
    }
    assert (found.own, found.upstreams["codex"].origin) == ("codex", "https://api.openai.com")
    assert found.upstreams["openai"].origin == "http://localhost:8000"


def test_codex_openai_base_url_becomes_the_upstream() -> None:
    found = prepared("codex", files={f"{HOME}/.codex/config.toml": f'openai_base_url = "{URL}/v1"'})
    assert found.upstreams["codex"].origin == "https://gateway.example.com"
    assert found.upstreams["codex"].base_path == "/team"
    assert f"{BARE}/codex/team/v1" in found.argv[4]
    found = prepared("codex", environ={"CODEX_HOME": "/c"}, files={"/c/config.toml": f'openai_base_url = "{URL}"'})
    assert found.upstreams["codex"].variable == "/c/config.toml"


MINE = f"""
model_provider = "mine"
[model_providers.mine]
base_url = "{URL}/v1"
[model_providers.other]
base_url = "https://other.example.com/v1"
[model_providers.none]
[profiles.p]
model_provider = "other"
[profiles.q]
model_provider = "openai"
"""


def test_codex_own_provider_keeps_all_but_its_address() -> None:
    header = {"x-leasecap-gate": "LEASECAP_GATE_TOKEN"}
    assert codex(text=MINE) == {
        "model_providers": {"mine": {"base_url": f"{BARE}/codex/team/v1", "env_http_headers": header}}
    }


def test_codex_profile_and_arguments_choose_the_provider() -> None:
    other = f"{BARE}/codex/v1"
    for argv in (("-p", "p"), ("--profile=p",), ("-c", "profile=p")):
        found = prepared("codex", *argv, files={f"{HOME}/.codex/config.toml": MINE})
        assert found.upstreams["codex"].host == "other.example.com"
    found = prepared("codex", "-c", 'model_provider="other"', "hi", files={f"{HOME}/.codex/config.toml": MINE})
    assert overrides(found.argv)["model_providers"]["other"]["base_url"] == other  # type: ignore[index]
    files = {f"{HOME}/.codex/config.toml": "", f"{HOME}/.codex/x.config.toml": f'openai_base_url = "{URL}"'}
    assert prepared("codex", "-p", "x", files=files).upstreams["codex"].host == "gateway.example.com"


def test_codex_argument_cannot_take_the_provider_back() -> None:
    found = prepared("codex", "exec", "-c", "model_provider=openai", "hi", files={f"{HOME}/.codex/config.toml": MINE})
    assert overrides(found.argv)["model_provider"] == "leasecap"
    assert found.argv[-2:] == ("exec", "hi")
    argv = ("codex", "-c", f'model_providers.mine.base_url="{URL}"')
    assert refused(*argv, files={f"{HOME}/.codex/config.toml": MINE})[0] == "-c"


def test_codex_address_in_an_argument_becomes_the_upstream() -> None:
    found = prepared("codex", "-c", f'openai_base_url="{URL}/v1"')
    assert found.upstreams["codex"].host == "gateway.example.com"


def test_codex_without_an_address_is_refused() -> None:
    path = f"{HOME}/.codex/config.toml"
    text = MINE.replace('"mine"', '"none"', 1)
    assert refused("codex", files={path: text}) == (path, "model_providers.none.base_url")
    assert refused("codex", files={path: 'model_provider = "amazon-bedrock"'})[0] == path
    assert refused("codex", files={path: "= hidden"})[0] == path


def test_codex_with_local_models_needs_their_address() -> None:
    assert refused("codex", "--oss")[0] == "CODEX_OSS_BASE_URL"
    environ = {"CODEX_OSS_BASE_URL": "http://127.0.0.1:1234/v1"}
    found = prepared("codex", "--oss", environ=environ)
    assert found.argv == ("codex", "--oss")
    assert found.environment["CODEX_OSS_BASE_URL"] == f"{GATE}/codex/v1"
    assert found.upstreams["codex"].origin == "http://127.0.0.1:1234"


# Gemini CLI


CHOSEN = '{"security": {"auth": {"selectedType": "%s"}}} // by me'


def test_gemini_with_a_login_needs_variables_alone() -> None:
    path = f"{HOME}/.gemini/settings.json"
    found = prepared("gemini", files={path: CHOSEN % "gemini-api-key"})
    assert (found.argv, found.files, found.own) == (("gemini",), {}, "gemini")
    found = prepared("gemini", files={path: CHOSEN % "oauth-personal"})
    assert (found.own, found.environment["CODE_ASSIST_ENDPOINT"]) == ("codeassist", f"{GATE}/codeassist")
    assert prepared("gemini", environ={"GOOGLE_GENAI_USE_GCA": "true"}).own == "codeassist"


def test_gemini_without_a_login_is_given_one_by_root_alone() -> None:
    found = prepared("gemini", superuser=True)
    path = found.environment["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"]
    assert path == f"{PRIVATE}/gemini-defaults.json"
    assert json.loads(found.files["gemini-defaults.json"])["security"]["auth"]["selectedType"] == "gemini-api-key"
    assert refused("gemini") == (f"{HOME}/.gemini/settings.json", "security.auth.selectedType")
    environ = {"GEMINI_CLI_SYSTEM_DEFAULTS_PATH": "/mine.json"}
    assert refused("gemini", environ=environ)
    assert prepared("gemini", environ=environ, files={"/mine.json": CHOSEN % "gemini-api-key"}).files == {}


def test_gemini_on_vertex_is_told() -> None:
    found = prepared("gemini", environ={"GOOGLE_GENAI_USE_VERTEXAI": "true"})
    assert "GOOGLE_GENAI_USE_VERTEXAI" in found.warnings[0]


# Qwen Code


def test_qwen_settings_become_the_upstream() -> None:
    text = json.dumps({"security": {"auth": {"baseUrl": f"{URL}/v1", "selectedType": "openai"}}})
    files = {f"{HOME}/.qwen/settings.json": text}
    found = prepared("qwen", files=files)
    assert (found.own, found.upstreams["openai"].host) == ("openai", "gateway.example.com")
    assert found.environment["OPENAI_BASE_URL"] == f"{GATE}/openai/team/v1"
    found = prepared("qwen", environ={"OPENAI_BASE_URL": "http://b.example.com"}, files=files)
    assert found.upstreams["openai"].host == "b.example.com"
    assert int(found.environment["QWEN_CODE_API_TIMEOUT_MS"]) > 600_000
    assert refused("qwen", files={f"{WORK}/.qwen/settings.json": text}) == (
        f"{WORK}/.qwen/settings.json",
        "security.auth.baseUrl",
    )


def test_qwen_address_in_an_argument_is_refused() -> None:
    assert refused("qwen", "--openai-base-url", URL)[0] == "--openai-base-url"


def test_qwen_with_a_proxy_is_told() -> None:
    assert "NO_PROXY" in prepared("qwen", environ={"HTTP_PROXY": "http://proxy:1"}).warnings[0]
    files = {f"{HOME}/.qwen/settings.json": '{"modelProviders": {"openai": [{}]}}'}
    assert "modelProviders" in prepared("qwen", files=files).warnings[0]
    assert prepared("qwen").warnings == ()


# opencode


def content(*argv: str, environ: dict[str, str] | None = None, files: dict[str, str] | None = None) -> object:
    found = prepared("opencode", *argv, environ=environ, files=files)
    return json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])["provider"]


def test_opencode_gets_the_providers_that_it_has_a_key_for() -> None:
    files = {f"{HOME}/.local/share/opencode/auth.json": '{"xai": {"type": "api", "key": "hidden"}}'}
    found = prepared("opencode", environ={"ANTHROPIC_API_KEY": "k", "GEMINI_API_KEY": "k"}, files=files)
    assert found.environment["ANTHROPIC_BASE_URL"] == f"{GATE}/anthropic/v1"
    assert json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])["provider"] == {
        name: {"options": {"headerTimeout": False, "baseURL": f"{GATE}/{path}"}}
        for name, path in {
            "anthropic": "anthropic/v1",
            "google": "gemini/v1beta",
            "opencode": "opencode/zen/v1",
            "xai": "xai/v1",
        }.items()
    }


def test_opencode_files_become_upstreams() -> None:
    mine = '{"provider": {"my-box": {"npm": "x", "options": {"baseURL": "http://box:1/v1"}},}} /* mine */'
    files = {
        f"{WORK}/opencode.json": mine,
        f"{HOME}/.config/opencode/opencode.jsonc": '{"provider": {"openai": {"options": {"baseURL": "{env:GW}/v1"}}}}',
    }
    environ = {"GW": URL, "OPENAI_BASE_URL": "http://lower.example.com"}
    found = prepared("opencode", "-m", "my-box/model", environ=environ, files=files)
    assert (found.own, found.upstreams["my-box"].origin) == ("my-box", "http://box:1")
    assert (found.upstreams["openai"].host, found.upstreams["openai"].base_path) == ("gateway.example.com", "/team")
    providers = json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])["provider"]
    assert providers["my-box"]["options"]["baseURL"] == f"{GATE}/my-box/v1"
    assert providers["openai"]["options"]["baseURL"] == f"{GATE}/openai/team/v1"


def test_opencode_content_is_merged_and_goes_above_files() -> None:
    text = '{"theme": "x", "provider": {"openai": {"models": {}, "options": {"headerTimeout": 5, "baseURL": "%s"}}}}'
    files = {f"{WORK}/opencode.json": '{"provider": {"openai": {"options": {"baseURL": "http://lower"}}}}'}
    found = prepared("opencode", environ={"OPENCODE_CONFIG_CONTENT": text % URL}, files=files)
    written = json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])
    assert written["theme"] == "x"
    options = {"headerTimeout": 5, "baseURL": f"{GATE}/openai/team"}
    assert written["provider"]["openai"] == {"models": {}, "options": options}
    assert found.upstreams["openai"].host == "gateway.example.com"


def test_opencode_model_names_its_own_provider() -> None:
    assert prepared("opencode", "run", "--model=google/gemini", "hi").own == "gemini"
    assert prepared("opencode").own is None
    assert prepared("opencode", files={f"{WORK}/opencode.json": '{"model": "anthropic/x"}'}).own == "anthropic"
    assert prepared("opencode", "-m", "nobody/x").own is None


def test_opencode_provider_with_an_odd_name_is_told() -> None:
    files = {f"{WORK}/opencode.json": '{"provider": {"My Box": {"options": {"baseURL": "http://box"}}}}'}
    found = prepared("opencode", files=files)
    assert "'My Box'" in found.warnings[0]
    assert "My Box" not in json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])["provider"]


def test_opencode_content_that_cannot_be_read_is_refused() -> None:
    assert refused("opencode", environ={"OPENCODE_CONFIG_CONTENT": "hidden"})[0] == "OPENCODE_CONFIG_CONTENT"


def test_json_comments_inside_texts_stay() -> None:
    files = {f"{WORK}/opencode.json": '{"model": "anthropic/a//b", /* x */ "list": ["a,]",], }'}
    assert prepared("opencode", files=files).own == "anthropic"
