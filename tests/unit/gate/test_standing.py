"""What a gate that stands for itself is for, and what leads agents to it."""

from __future__ import annotations

import pytest

from leasecap._config.config import parse_config
from leasecap._errors import ConfigError
from leasecap._gate.clients import AGENTS, PROVIDERS
from leasecap._gate.standing import declare, environment, keeping_paths

CORP = parse_config("/root/config.toml", '[gate.upstreams]\ncorp = "https://llm.example.com/v1"\n').gate


def test_all_known_providers_are_its_upstreams() -> None:
    found = declare({}, None, 4283)
    assert set(found.upstreams) == set(PROVIDERS)
    assert found.upstreams["anthropic"].origin == "https://api.anthropic.com"
    assert found.variables["OPENAI_BASE_URL"] == "openai/v1"


def test_those_of_the_configuration_are_too() -> None:
    assert declare({}, CORP, 4283).told()["corp"] == ("https://llm.example.com", "corp/v1")


def test_what_is_set_is_the_upstream_with_its_path() -> None:
    found = declare({"OPENAI_BASE_URL": " http://10.0.0.1:8000/llm/v1 "}, None, 4283)
    assert found.upstreams["openai"].origin == "http://10.0.0.1:8000"
    assert found.variables["OPENAI_BASE_URL"] == "openai/llm/v1"
    assert found.variables["OPENAI_API_BASE"] == "openai/llm/v1"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_its_own_address_is_none_and_that_of_another_port_is(host: str) -> None:
    own = {"ANTHROPIC_BASE_URL": f"http://{host}:4283/{'0' * 48}/anthropic"}
    assert declare(own, None, 4283).upstreams["anthropic"].origin == "https://api.anthropic.com"
    assert declare(own, None, 4284).upstreams["anthropic"].port == 4283


def test_two_variables_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_API_BASE"):
        declare({"ANTHROPIC_BASE_URL": "https://a.example.com", "ANTHROPIC_API_BASE": "https://b.example.com"}, None, 1)


def test_the_key_of_one_host_is_never_led_to_another() -> None:
    declared = declare({}, None, 4283)
    with pytest.raises(ConfigError, match="ANTHROPIC_BASE_URL") as raised:
        keeping_paths({"ANTHROPIC_BASE_URL": "https://b.example.com/x"}, declared.variables, declared.told())
    assert '[gate.upstreams] anthropic = "https://b.example.com/x"' in (raised.value.allowed or "")
    same = declare({"ANTHROPIC_BASE_URL": "https://b.example.com/y"}, None, 4283)
    found = keeping_paths({"ANTHROPIC_BASE_URL": "https://b.example.com/x"}, same.variables, same.told())
    assert found["ANTHROPIC_BASE_URL"] == "anthropic/x"


@pytest.mark.parametrize("token", ["0" * 48, "-"])
def test_an_address_of_an_earlier_gate_is_replaced(token: str) -> None:
    declared = declare({}, None, 4283)
    old = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:5000/{token}/anthropic"}
    assert keeping_paths(old, declared.variables, declared.told()) == declared.variables


def test_every_agents_time_outs_are_lifted() -> None:
    declared = declare({}, None, 4283)
    found = environment({}, "127.0.0.1:4283", "TOK", declared.variables, declared.told(), {})
    assert all(found[name] == text for agent in AGENTS.values() for name, text in agent.environment.items())
    assert found["ENABLE_TOOL_SEARCH"] == "true"
    assert found["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4283/TOK/anthropic"


def test_what_is_for_the_providers_own_host_stays_there() -> None:
    declared = declare({"ANTHROPIC_BASE_URL": "https://b.example.com"}, None, 4283)
    found = environment({}, "127.0.0.1:4283", "TOK", declared.variables, declared.told(), {})
    assert "ENABLE_TOOL_SEARCH" not in found
