from __future__ import annotations

import pytest

from leasecap._config.gate import parse_address
from leasecap._config.pool_name import pool_name
from leasecap._errors import ConfigError
from leasecap._gate.clients import AGENTS, PROVIDERS
from leasecap._gate.upstreams import Upstream, detour, gate_url, public

CODEX = Upstream("codex", "https", "api.openai.com", 443)


def test_every_public_address_can_be_used() -> None:
    for name, provider in PROVIDERS.items():
        assert public(name).path == ""
        assert all(variable.path == "" or variable.path.startswith("/") for variable in provider.variables)


@pytest.mark.parametrize("name", sorted(PROVIDERS.keys() - {"codex", "opencode", "codeassist"}))
def test_public_address_has_the_pool_of_its_name(name: str) -> None:
    assert pool_name(public(name).origin).text == name


def test_logins_share_the_pool_of_their_provider() -> None:
    assert pool_name("https://chatgpt.com/backend-api/codex").text == "openai"
    assert pool_name(public("codex").origin).text == "openai"
    assert pool_name(public("codeassist").origin).text == "gemini"


def test_no_two_providers_read_one_variable() -> None:
    names = [variable.name for provider in PROVIDERS.values() for variable in provider.variables]
    assert len(names) == len(set(names))


def test_an_agent_is_reached_or_says_why_not() -> None:
    for agent in AGENTS.values():
        assert agent.provider is None or agent.provider in PROVIDERS
        assert not agent.left_to_user or "without --per-request" in agent.left_to_user


def test_gate_url_has_token_and_name() -> None:
    assert gate_url("127.0.0.1:1", "t0", "openai") == "http://127.0.0.1:1/t0/openai"


def test_origin_leaves_out_what_the_scheme_implies() -> None:
    assert CODEX.origin == "https://api.openai.com"
    assert parse_address("http://[::1]:8000/v1").origin == "http://[::1]:8000"


def test_detour_takes_a_chatgpt_login_to_its_own_host() -> None:
    upstream, target = detour(CODEX, {b"chatgpt-account-id"}, b"/v1/responses?a=%2f")
    assert (upstream.origin, upstream.name, target) == (
        "https://chatgpt.com",
        "codex",
        b"/backend-api/codex/responses?a=%2f",
    )


@pytest.mark.parametrize(
    ("upstream", "headers"),
    [
        (CODEX, {b"authorization"}),
        (CODEX._replace(host="gateway.example.com", variable="/home/me/.codex/config.toml"), {b"chatgpt-account-id"}),
        (CODEX._replace(name="openai"), {b"chatgpt-account-id"}),
    ],
)
def test_detour_leaves_everything_else_alone(upstream: Upstream, headers: set[bytes]) -> None:
    assert detour(upstream, headers, b"/v1/responses") == (upstream, b"/v1/responses")


@pytest.mark.parametrize(
    "text",
    ["", "api.example.com", "ftp://a.b", "http://", "http://a:0", "http://a:65536", "http://a b", "http://a\n", "é", 3],
)
def test_parse_address_refuses_what_is_none(text: object) -> None:
    with pytest.raises(ValueError):
        parse_address(text)


@pytest.mark.parametrize("text", ["http://user:hidden@a", "https://a/v1?key=hidden", "https://a/#hidden"])
def test_parse_address_never_shows_what_may_be_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert "hidden" not in str(caught.value)
